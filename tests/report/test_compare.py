"""The comparison of runs, from metrics.json files with known results."""

import csv
from pathlib import Path
from typing import Any

import pytest
from examples import metrics, save, shown
from matplotlib.figure import Figure

from restoration.compare import main
from restoration.errors import UserError
from restoration.report.curves import write_curves
from restoration.report.folder import Report, find
from restoration.report.table import rows


def test_table_shows_each_method_once_sorted(tmp_path: Path):
    for strength in (1.0, 0.5):
        save(tmp_path / "blur_erase" / f"s{strength}", metrics(strength))
    above, heading, *body = shown(rows(find([tmp_path])))
    assert above[11] == "Fréchet"
    assert heading == [
        *"run strength severity NFE solver PSNR SSIM hole known texture spread".split(),
        *("resnet34_tin, n = 1000", "images/s"),
    ]
    assert [row[:6] for row in body] == [
        ["identity", "0.50", "uniform", "-", "-", "20.00"],
        ["mean_fill", "0.50", "uniform", "-", "-", "22.00"],
        ["s0.5", "0.50", "uniform", "1", "midpoint", "24.00"],
        ["s0.5", "0.50", "uniform", "8", "midpoint", "22.50"],
        ["identity", "1.00", "uniform", "-", "-", "16.00"],
        ["mean_fill", "1.00", "uniform", "-", "-", "18.00"],
        ["s1.0", "1.00", "uniform", "1", "midpoint", "20.00"],
        ["s1.0", "1.00", "uniform", "8", "midpoint", "18.50"],
    ]
    assert body[3][6:] == ["0.700", "18.50", "25.00", "1.60", "0.050", "3.25", "12.5"]


def test_baselines_of_the_same_images_are_listed_once(tmp_path: Path):
    for name, gain in (("regression", 4.0), ("flow", 5.0)):
        content = metrics(1.0, gain)
        content["run"]["name"] = name
        save(tmp_path / name, content)
    _, _, *body = shown(rows(find([tmp_path / "flow", tmp_path / "regression", tmp_path])))
    assert [row[0] for row in body] == ["identity", "mean_fill", "flow", "flow", "regression", "regression"]


def test_baselines_of_several_groups_are_listed_once_and_belong_to_none(tmp_path: Path):
    for group, strength in (("flows", 0.5), ("flows", 1.0), ("regressions", 1.0)):
        content = metrics(strength)
        content["run"]["experiment"] = group
        save(tmp_path / group / f"s{strength}", content)
    _, heading, *body = shown(rows(find([tmp_path])))
    assert heading[:3] == ["group", "run", "strength"]
    assert [row[:3] for row in body if row[4] in ("-", "1")] == [
        ["flows", "identity", "0.50"],
        ["flows", "mean_fill", "0.50"],
        ["flows", "s0.5", "0.50"],
        ["-", "identity", "1.00"],
        ["-", "mean_fill", "1.00"],
        ["flows", "s1.0", "1.00"],
        ["regressions", "s1.0", "1.00"],
    ]


def test_missing_metrics_are_dashes_and_empty_columns_are_left_out(tmp_path: Path):
    folder = save(tmp_path / "blur_erase" / "old", {"identity": {"psnr": 15.0}, "restored": {"psnr": 19.0, "nfe": 1}})
    heading, *body = shown(rows(find([folder])))
    assert heading == ["run", "NFE", "PSNR"]
    assert body == [["identity", "-", "15.00"], ["old", "1", "19.00"]]
    assert Report.load(folder).group == "blur_erase"


def test_what_cannot_be_compared_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="no run folder at"):
        find([tmp_path / "gone"])
    with pytest.raises(UserError, match="no metrics.json in or below"):
        find([tmp_path])
    save(tmp_path / "torn", '{"restored": ')
    with pytest.raises(UserError, match="torn/metrics.json cannot be read"):
        find([tmp_path])
    save(tmp_path / "empty", "{}")
    with pytest.raises(UserError, match="holds no results"):
        find([tmp_path / "empty"])


def test_curves_draw_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: dict[str, list[tuple[float, ...]]] = {}

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        for line in figure.axes[0].lines:
            drawn[line.get_label()] = [tuple(line.get_xdata()), tuple(line.get_ydata())]

    monkeypatch.setattr(Figure, "savefig", keep)
    for strength in (1.0, 0.25):
        save(tmp_path / f"s{strength}", metrics(strength))
    assert [path.name for path in write_curves(find([tmp_path]), tmp_path)] == ["strength.png", "nfe.png"]
    assert drawn == {
        "blur_erase": [(0.25, 1.0), (24.5, 18.5)],
        "blur_erase identity": [(0.25, 1.0), (22.0, 16.0)],
        "blur_erase/s0.25 midpoint": [(1, 8), (26.0, 24.5)],
        "blur_erase/s1.0 midpoint": [(1, 8), (20.0, 18.5)],
    }


def test_command_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = save(tmp_path / "runs" / "s1.0", metrics(1.0))
    main([str(folder), "--output", str(tmp_path / "comparison")])
    assert "18.50" in capsys.readouterr().out
    with (tmp_path / "comparison" / "compare.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["method"], row["nfe"], row["psnr"]) for row in written] == [
        ("identity", "", "16.0"),
        ("mean_fill", "", "18.0"),
        ("restored", "1", "20.0"),
        ("restored", "8", "18.5"),
    ]
    assert {row["frechet_over"] for row in written} == {"", "resnet34_tin"}
    # One strength is a point, not a curve.
    assert sorted(path.name for path in (tmp_path / "comparison").iterdir()) == ["compare.csv", "nfe.png"]


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: no metrics.json") and said.count("\n") == 1


def test_a_file_is_no_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = save(tmp_path / "run", metrics(1.0))
    with pytest.raises(SystemExit) as ended:
        main([str(folder), "--output", str(folder / "metrics.json")])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert "metrics.json cannot be a folder (File exists); give another" in said.err


@pytest.mark.parametrize(
    "name, values",
    [
        ("corruption", ("blur_erase", "salt_pepper")),
        ("data", ("image_folder", "tiny_imagenet")),
        ("image_size", (32, 64)),
        ("split", ("selection", "test")),
    ],
)
def test_other_images_or_corruptions_have_a_block_and_a_column(name: str, values: tuple, tmp_path: Path):
    for value in values:
        content = metrics(1.0)
        content["run"][name] = value
        save(tmp_path / str(value), content)
    heading, *body = [row for row in shown(rows(find([tmp_path]))) if "identity" in row or name in row]
    assert heading[1] == name and [row[1] for row in body] == list(map(str, values))


def test_time_grids_have_a_column_if_they_differ(tmp_path: Path):
    for run, sampler in {"fitted": {"warp": [1.3, 5.0]}, "flat": {"warp": [1.0, 1.0]}, "silent": {}}.items():
        content = metrics(1.0)
        content["run"] |= {"name": run, "sampler": sampler}
        save(tmp_path / run, content)
    body = shown(rows(find([tmp_path])))
    column = next(row for row in body if "NFE" in row).index("warp")
    grids = {row[0]: row[column] for row in body if row[0] in ("fitted", "flat", "silent")}
    assert grids == {"fitted": "1.3, 5.0", "flat": "1.0, 1.0", "silent": "1.0, 1.0"}
    assert not any("warp" in row for row in shown(rows(find([tmp_path / "flat", tmp_path / "silent"]))))
