"""The comparison of runs, from metrics.json files whose figures are known."""

import csv
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from restoration.compare import main
from restoration.errors import UserError
from restoration.report.curves import write_curves
from restoration.report.folder import Report, find
from restoration.report.table import rows, table, write_csv


def metrics(strength: float, gain: float = 4.0) -> dict[str, Any]:
    """What evaluate leaves: identity at 24 - 8 s dB, restored `gain` dB above it, half a dB less per NFE doubled."""
    identity = 24 - 8 * strength
    points = [
        {
            "nfe": nfe,
            "solver": "midpoint",
            "psnr": identity + gain - loss,
            "psnr_ci": [0.0, 99.0],
            "ssim": 0.7,
            "psnr_hole": 20.0 - loss,
            "psnr_known": 25.0,
            "texture_ratio": 0.1 + loss,
            "spread_hole": 0.05,
            "frechet_resnet34_tin": 3.25,
            "frechet_resnet34_tin_ci": [3.0, 3.5],
            "frechet_resnet34_tin_left_out": [3.25 + 0.1 * (-1) ** group for group in range(10)],
        }
        for nfe, loss in ((8, 1.5), (1, 0.0))
    ]
    return {
        "identity": {"psnr": identity, "ssim": 0.4, "psnr_hole": 6.0, "psnr_known": 22.0},
        "classical": {"mean_fill": {"psnr": identity + 2, "psnr_hole": 15.0, "psnr_known": None}},
        "restored": points[0],
        "by_nfe": points,
        "n": 1000,
        "images_per_second": 12.5,
        "run": {"experiment": "blur_erase", "name": f"s{strength}", "strength": strength, "severity": "uniform"},
    }


def leave(folder: Path, content: dict[str, Any] | str) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def shown(results: list[dict[str, Any]]) -> list[list[str]]:
    """The cells of the printed table."""
    console = Console(width=240, record=True, file=StringIO())
    console.print(table(results))
    lines = [line for line in console.export_text().splitlines() if line[:1] in "│┃"]
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]


def test_table_shows_each_method_once_sorted(tmp_path: Path):
    for strength in (1.0, 0.5):
        leave(tmp_path / "blur_erase" / f"s{strength}", metrics(strength))
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


def test_baselines_of_the_same_images_stand_once(tmp_path: Path):
    for name, gain in (("regression", 4.0), ("flow", 5.0)):
        content = metrics(1.0, gain)
        content["run"]["name"] = name
        leave(tmp_path / name, content)
    _, _, *body = shown(rows(find([tmp_path / "flow", tmp_path / "regression", tmp_path])))
    assert [row[0] for row in body] == ["identity", "mean_fill", "flow", "flow", "regression", "regression"]


def test_missing_figures_are_dashes_and_empty_columns_go(tmp_path: Path):
    folder = leave(tmp_path / "blur_erase" / "old", {"identity": {"psnr": 15.0}, "restored": {"psnr": 19.0, "nfe": 1}})
    heading, *body = shown(rows(find([folder])))
    assert heading == ["run", "NFE", "PSNR"]
    assert body == [["identity", "-", "15.00"], ["old", "1", "19.00"]]
    assert Report.load(folder).group == "blur_erase"


def test_what_cannot_be_compared_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="no run folder at"):
        find([tmp_path / "gone"])
    with pytest.raises(UserError, match="no metrics.json in or below"):
        find([tmp_path])
    leave(tmp_path / "torn", '{"restored": ')
    with pytest.raises(UserError, match="torn/metrics.json cannot be read"):
        find([tmp_path])
    leave(tmp_path / "empty", "{}")
    with pytest.raises(UserError, match="holds no results"):
        find([tmp_path / "empty"])


def test_curves_draw_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: dict[str, list[tuple[float, ...]]] = {}

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        for line in figure.axes[0].lines:
            drawn[line.get_label()] = [tuple(line.get_xdata()), tuple(line.get_ydata())]

    monkeypatch.setattr(Figure, "savefig", keep)
    for strength in (1.0, 0.25):
        leave(tmp_path / f"s{strength}", metrics(strength))
    assert [path.name for path in write_curves(find([tmp_path]), tmp_path)] == ["strength.png", "nfe.png"]
    assert drawn == {
        "blur_erase": [(0.25, 1.0), (24.5, 18.5)],
        "blur_erase identity": [(0.25, 1.0), (22.0, 16.0)],
        "blur_erase/s0.25 midpoint": [(1, 8), (26.0, 24.5)],
        "blur_erase/s1.0 midpoint": [(1, 8), (20.0, 18.5)],
    }


def test_command_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = leave(tmp_path / "runs" / "s1.0", metrics(1.0))
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


def test_command_says_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("error: no metrics.json") and said.count("\n") == 1


def test_a_file_is_no_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = leave(tmp_path / "run", metrics(1.0))
    with pytest.raises(SystemExit) as ended:
        main([str(folder), "--output", str(folder / "metrics.json")])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert "metrics.json cannot be a folder (File exists); give another" in said.err


def leave_images(folder: Path, psnr: dict[int, float], identity: float = 15.0) -> None:
    """per_image.csv at one NFE."""
    with (folder / "per_image.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "nfe", "psnr", "identity_psnr"])
        writer.writerows([index, 1, value, identity] for index, value in psnr.items())


def paired_runs(folder: Path) -> list[Report]:
    """Images differ by 10 dB; the second run is better by 0.5 ± 0.1 dB on each. The third has other images."""
    levels = {index: 15.0 + 10 * (index % 2) for index in range(200)}
    for name, gain, identity in (("first", 0.0, 15.0), ("second", 0.5, 15.0), ("other images", 0.5, 14.0)):
        content = metrics(1.0)
        content["run"]["name"] = name
        if gain:
            point = next(point for point in content["by_nfe"] if point["nfe"] == 1)
            point["frechet_resnet34_tin"] = 3.0
            point["frechet_resnet34_tin_left_out"] = [2.75 + 0.1 * (-1) ** group for group in range(10)]
        leave(folder / name, content)
        variation = {index: 0.1 * (-1) ** (index // 2) if gain else 0.0 for index in levels}
        leave_images(folder / name, {i: level + gain + variation[i] for i, level in levels.items()}, identity)
    return [Report.load(folder / name) for name in ("first", "second", "other images")]


def test_the_difference_of_two_runs_is_paired_by_image(tmp_path: Path):
    """The interval is that of the differences: the images' own variation of 5 dB is not in it."""
    first, second, other = paired_runs(tmp_path)
    mean, low, high = second.difference(first, 1)
    assert mean == pytest.approx(0.5)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.1 / math.sqrt(200), rel=0.1)
    assert first.difference(second, 1) == pytest.approx((-mean, -high, -low), abs=2e-3)
    assert first.difference(first, 1) == (0, 0, 0)
    assert other.difference(first, 1) is None and second.difference(first, 8) is None


def test_the_difference_of_frechet_distances_leaves_the_same_images_out_of_both(tmp_path: Path):
    first, second, other = paired_runs(tmp_path)
    # What moves both distances alike does not count: the interval has no width.
    assert second.frechet_difference(first, 1) == pytest.approx((-0.25, -0.25, -0.25))
    assert first.frechet_difference(second, 1) == pytest.approx((0.25, 0.25, 0.25))
    assert other.frechet_difference(first, 1) is None
    point = next(point for point in second.metrics["by_nfe"] if point["nfe"] == 1)
    point["frechet_resnet50_tin_left_out"] = point.pop("frechet_resnet34_tin_left_out")
    point["frechet_resnet50_tin"] = 3.0
    assert second.frechet_difference(first, 1) is None


def test_differences_stand_in_the_table_and_the_csv(tmp_path: Path):
    first, second, _ = paired_runs(tmp_path)
    mean, low, high = second.difference(first, 1)
    console = Console(width=220, record=True, file=StringIO())
    console.print(table(rows([second], first)))
    text = console.export_text()
    assert f"+0.50 [+{low:.2f}, +{high:.2f}]" in text and "-0.25 [-0.25, -0.25]" in text
    assert "ΔPSNR vs" in text and "ΔFréchet vs" in text
    write_csv(rows([second], first), tmp_path / "compare.csv")
    with (tmp_path / "compare.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == "restored" and row["nfe"] == "1")
    assert row["difference_to"] == "first"
    assert [float(row[f"psnr_difference{end}"]) for end in ("", "_low", "_high")] == pytest.approx([mean, low, high])
    assert [float(row[f"frechet_difference{end}"]) for end in ("", "_low", "_high")] == pytest.approx([-0.25] * 3)


def test_markdown_has_the_cells_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second, _ = paired_runs(tmp_path)
    main([str(second.folder), "--to", str(first.folder), "--markdown"])
    heading, rule, *body = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert heading[:6] == ["run", "strength", "severity", "NFE", "solver", "PSNR"]
    assert "ΔPSNR vs first" in heading and "Fréchet resnet34_tin, n = 1000" in heading
    assert [align for align, name in zip(rule, heading, strict=True) if name in ("run", "PSNR")] == [":--", "--:"]
    assert [row[0] for row in body] == ["identity", "mean_fill", "second", "second"]
    assert body == shown(rows([second], first))[-4:]


@pytest.mark.parametrize(
    "name, values",
    [
        ("corruption", ("blur_erase", "salt_pepper")),
        ("data", ("image_folder", "tiny_imagenet")),
        ("image_size", (32, 64)),
        ("split", ("selection", "test")),
    ],
)
def test_other_images_or_damage_have_a_block_and_a_column(name: str, values: tuple, tmp_path: Path):
    for value in values:
        content = metrics(1.0)
        content["run"][name] = value
        leave(tmp_path / str(value), content)
    heading, *body = [row for row in shown(rows(find([tmp_path]))) if "identity" in row or name in row]
    assert heading[1] == name and [row[1] for row in body] == list(map(str, values))


def test_grids_have_a_column_where_they_differ(tmp_path: Path):
    for run, sampler in {"fitted": {"warp": [1.3, 5.0]}, "flat": {"warp": [1.0, 1.0]}, "silent": {}}.items():
        content = metrics(1.0)
        content["run"] |= {"name": run, "sampler": sampler}
        leave(tmp_path / run, content)
    body = shown(rows(find([tmp_path])))
    column = next(row for row in body if "NFE" in row).index("warp")
    grids = {row[0]: row[column] for row in body if row[0] in ("fitted", "flat", "silent")}
    assert grids == {"fitted": "1.3, 5.0", "flat": "1.0, 1.0", "silent": "1.0, 1.0"}
    assert not any("warp" in row for row in shown(rows(find([tmp_path / "flat", tmp_path / "silent"]))))
