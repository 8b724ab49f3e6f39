"""Time to quality: from the curves of run folders."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from restoration.benchmark import main
from restoration.benchmark.quality import curve, reached, time_to_quality
from restoration.errors import UserError


def run(folder: Path, name: str, psnr: Sequence[float], seconds: float) -> Path:
    """A run of 100 steps between validations, each of so many seconds; the time is logged every 10 steps."""
    lines = ["step,train/time,val/psnr"]
    for number, value in enumerate(psnr):
        lines += [f"{100 * number + step},{(100 * number + step + 1) * seconds}," for step in range(9, 100, 10)]
        lines.append(f"{100 * number + 99},,{value}")
    (folder / name).mkdir()
    (folder / name / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder / name


def test_the_curve_has_the_time_of_each_validation(tmp_path: Path):
    assert curve(run(tmp_path, "a", [20, 22, 23], 0.5)) == [(50.0, 20.0), (100.0, 22.0), (150.0, 23.0)]


@pytest.mark.parametrize("target, seconds", [(20, 50), (21, 75), (22.5, 125), (24, None), (10, 50)])
def test_between_validations_the_curve_is_straight(target: float, seconds: float | None):
    assert reached([(50, 20), (100, 22), (150, 23)], target) == seconds


def test_a_fall_and_rise_counts_from_its_first_time():
    assert reached([(50, 20), (100, 24), (150, 21), (200, 25)], 22) == 75


def test_runs_are_compared_with_the_first_ones_end(tmp_path: Path):
    folders = [
        run(tmp_path, "reference", [20, 21, 22], 0.6),
        run(tmp_path, "faster", [21, 23], 0.6),
        run(tmp_path, "never", [20, 21.9], 0.6),
    ]
    rows = time_to_quality(folders).rows
    assert [row["run"] for row in rows] == [f"{tmp_path.name}/{name}" for name in ("reference", "faster", "never")]
    assert [row["minutes to it"] for row in rows] == [3.0, 1.5, None]
    assert [row["ratio"] for row in rows] == [1.0, 0.5, None]
    assert [row["minutes in all"] for row in rows] == [3.0, 2.0, 2.0]


def test_the_command_adds_the_table_to_the_page(tmp_path: Path, capsys):
    page, folder = tmp_path / "page.md", run(tmp_path, "a", [20, 22], 0.6)
    main(["--page", str(page), "--tables", "quality", "--runs", str(folder)])
    assert f"| {tmp_path.name}/a | 2.00 | 22.0 | 2.00 | 1.00 |" in page.read_text()
    with pytest.raises(SystemExit):
        main(["--page", str(page), "--tables", "quality"])
    assert "the table quality needs --runs" in capsys.readouterr().err


def test_a_resumed_run_and_another_folder_are_refused(tmp_path: Path):
    resumed = run(tmp_path, "resumed", [20, 21], 0.6)
    file = resumed / "metrics.csv"
    file.write_text(file.read_text().replace("199,120.0,", "199,3.0,"))
    with pytest.raises(UserError, match="was resumed"):
        time_to_quality([resumed])
    with pytest.raises(UserError, match=r"no metrics\.csv"):
        time_to_quality([tmp_path])
    file.write_text("step,val/psnr\n99,20\n")
    with pytest.raises(UserError, match="no validation PSNR with training times"):
        time_to_quality([resumed])
