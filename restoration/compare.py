"""Runs side by side: one table, and curves over corruption strength and over NFE.

python -m restoration.compare outputs/blur_erase --output outputs/comparison
python -m restoration.compare outputs/blur_erase --to outputs/blur_erase/first
"""

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console
from rich.table import Table

from restoration.report.folder import Report, find
from restoration.run.config import command, output_folder

__all__ = ["main", "show", "table", "write_csv", "write_curves"]

COLUMNS = (
    *("group", "run", "method", "seed", "data", "image_size", "split", "n"),
    *("corruption", "strength", "severity", "nfe", "solver", "warp"),
    *("psnr", "ssim", "psnr_hole", "psnr_known", "texture", "spread", "frechet", "frechet_over"),
    *("images_seen", "images_per_second"),
    *("psnr_less", "psnr_less_low", "psnr_less_high", "frechet_less", "frechet_less_low", "frechet_less_high"),
)
VARYING = ("seed", "data", "image_size", "split", "corruption")
"""Columns that a table has only where its runs differ in them, as it has `warp`."""


def _block(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Rows of one block are about the same images, damaged alike."""
    data = row["group"], str(row["data"]), row["image_size"] or 0, row["split"]
    return *data, str(row["corruption"]), row["strength"] or 0.0, str(row["severity"])


def _rows(reports: Sequence[Report], to: Report | None = None) -> list[dict[str, Any]]:
    """All rows; the baselines of runs on the same images stand once, above the runs.

    Given a run to compare to, `psnr_less` and `frechet_less` are a row's PSNR and Fréchet distance less that run's.
    """
    seen = set()
    rows = []
    for report in reports:
        for row in report.rows():
            if row["method"] != "restored":
                identity = tuple((key, value) for key, value in row.items() if key != "run")
                if identity in seen:
                    continue
                seen.add(identity)
            elif to is not None and "nfe" in row:
                nfe = row["nfe"]
                row = {**row, "psnr_less": report.less(to, nfe), "frechet_less": report.frechet_less(to, nfe)}
            rows.append(row)
    # Stable: within a strength of a group baselines come first, then runs in their order, NFE ascending.
    return sorted(rows, key=lambda row: (*_block(row), row["method"] == "restored"))


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*value, d=digits)
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def table(reports: Sequence[Report], to: Report | None = None) -> Table:
    """The runs' results and their baselines, one row for each method and NFE.

    PSNR in dB, hole and known region apart. Texture: the hole's gradient energy over the clean one, 1 is right.
    Spread: standard deviation over samples inside the hole. PSNR and Fréchet distance also less those of the run to
    compare to. A dash is a figure that a run did not measure.
    """
    rows = _rows(reports, to)
    # Distances over other features, or of another number of images, are not comparable.
    sets = {f"{row['frechet_over']}, n = {row['n']}" for row in rows if "frechet_over" in row}
    frechet = f"Fréchet\n{sets.pop()}" if len(sets) == 1 else "Fréchet"
    groups = {row["group"] for row in rows}

    columns: list[tuple[str, Callable[[dict[str, Any]], Any], int]] = [
        ("run", lambda row: row["run"] if row["method"] == "restored" else row["method"], 0),
        *((name, lambda row, name=name: row.get(name), 0) for name in VARYING),
        ("strength", lambda row: row["strength"], 2),
        ("severity", lambda row: row["severity"], 2),
        ("NFE", lambda row: row.get("nfe"), 0),
        ("solver", lambda row: row.get("solver"), 0),
        ("warp", lambda row: row.get("warp"), 0),
        ("PSNR", lambda row: row.get("psnr"), 2),
        (f"PSNR less\n{to.name if to else ''}", lambda row: row.get("psnr_less"), 2),
        ("SSIM", lambda row: row.get("ssim"), 3),
        ("hole", lambda row: row.get("psnr_hole"), 2),
        ("known", lambda row: row.get("psnr_known"), 2),
        ("texture", lambda row: row.get("texture"), 2),
        ("spread", lambda row: row.get("spread"), 3),
        (frechet, lambda row: row.get("frechet"), 2),
        (f"Fréchet less\n{to.name if to else ''}", lambda row: row.get("frechet_less"), 2),
        ("images/s", lambda row: row.get("images_per_second"), 1),
    ]

    def tells(name: str, get: Callable[[dict[str, Any]], Any]) -> bool:
        values = {get(row) for row in rows} - {None}
        return name == "run" or len(values) > (name in (*VARYING, "warp"))

    shown = [column for column in columns if tells(*column[:2])]
    grid = Table(title=groups.pop() if len(groups) == 1 else None)
    if groups:
        grid.add_column("group")
    for heading, _, _ in shown:
        text = heading in ("run", "data", "split", "corruption", "severity", "solver", "warp")
        grid.add_column(heading, justify="left" if text else "right", overflow="fold" if text else "ellipsis")
    previous: tuple[Any, ...] | None = None
    for row in rows:
        if previous not in (None, _block(row)):
            grid.add_section()
        previous = _block(row)
        cells = [_text(get(row), digits) for _, get, digits in shown]
        style = "dim" if row["method"] != "restored" else None
        grid.add_row(*([row["group"]] if groups else []), *cells, style=style)
    return grid


def show(reports: Sequence[Report], to: Report | None = None) -> None:
    """Print the table."""
    # A pipe has no width; rich's 80 columns would fold every cell.
    Console(width=None if sys.stdout.isatty() else 160).print(table(reports, to))


def write_csv(reports: Sequence[Report], path: Path, to: Report | None = None) -> None:
    """The table with all digits; an unmeasured figure is empty."""
    rows = _rows(reports, to)
    for row in rows:
        for name in ("psnr_less", "frechet_less"):
            if difference := row.get(name):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), difference, strict=True))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_curves(reports: Sequence[Report], folder: Path) -> list[Path]:
    """`strength.png` (where a group has several strengths) and `nfe.png` (where a run has several NFE)."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(name: str, lines: dict[tuple[str, str], list[tuple[float, float]]], x: str, log: bool) -> list[Path]:
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
        for axis, metric in zip(axes, ("psnr", "psnr_hole"), strict=True):
            for (label, measured), points in lines.items():
                if measured == metric:
                    dashed = label.endswith(" identity")
                    axis.plot(*zip(*sorted(points), strict=True), "--" if dashed else "-", marker="o", label=label)
            axis.set(xlabel=x, ylabel=f"{'PSNR' if metric == 'psnr' else 'PSNR in the hole'} (dB)")
            if log:
                axis.set_xscale("log", base=2)
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=8)
        figure.savefig(folder / name, dpi=120)
        pyplot.close(figure)
        return [folder / name]

    by_strength: dict[tuple[str, str], list[tuple[float, float]]] = {}
    by_nfe: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for report in reports:
        for metric in ("psnr", "psnr_hole"):
            for label, part in ((report.group, "restored"), (f"{report.group} identity", "identity")):
                value = (report.metrics.get(part) or {}).get(metric)
                if value is not None and report.strength is not None:
                    by_strength.setdefault((label, metric), []).append((report.strength, value))
            for point in report.metrics.get("by_nfe") or []:
                if point.get(metric) is not None:
                    label = f"{report.group}/{report.name}" + (f" {point['solver']}" if point.get("solver") else "")
                    by_nfe.setdefault((label, metric), []).append((point["nfe"], point[metric]))
    written = []
    if any(len({strength for strength, _ in points}) > 1 for points in by_strength.values()):
        written += save("strength.png", by_strength, "corruption strength", log=False)
    if any(len({nfe for nfe, _ in points}) > 1 for points in by_nfe.values()):
        written += save("nfe.png", by_nfe, "NFE (network evaluations per image)", log=True)
    return written


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m restoration.compare", description="Runs side by side.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders above them")
    parser.add_argument("--output", type=Path, help="also write compare.csv, strength.png and nfe.png here")
    parser.add_argument("--to", type=Path, help="a run folder: also show PSNR and Fréchet distance less that run's")
    options = parser.parse_args(arguments)
    reports = find(options.runs)
    to = Report.load(options.to) if options.to else None
    if options.output:
        output_folder(options.output)
    show(reports, to)
    if to and not any(row.get("psnr_less") for row in _rows(reports, to)):
        print(f"no differences to {to.name}: none was judged on the same damaged images at the same NFE")
    if options.output:
        write_csv(reports, options.output / "compare.csv", to)
        written = [options.output / "compare.csv", *write_curves(reports, options.output)]
        print("wrote " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
