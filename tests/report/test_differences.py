"""Differences between two runs, paired by image."""

import csv
import math
from io import StringIO
from pathlib import Path

import pytest
from examples import metrics, save, shown
from rich.console import Console

from restoration.compare import main
from restoration.report.folder import Report
from restoration.report.table import rows, table, write_csv


def save_images(folder: Path, psnr: dict[int, float], identity: float = 15.0) -> None:
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
        save(folder / name, content)
        variation = {index: 0.1 * (-1) ** (index // 2) if gain else 0.0 for index in levels}
        save_images(folder / name, {i: level + gain + variation[i] for i, level in levels.items()}, identity)
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
