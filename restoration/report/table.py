"""Tables of runs: for the terminal, as Markdown and as CSV."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from restoration.report.folder import Report

Row = dict[str, Any]

COLUMNS = (  # of the CSV file
    *("group", "run", "method", "seed", "data", "image_size", "split", "n"),
    *("corruption", "strength", "severity", "nfe", "solver", "warp"),
    *("psnr", "ssim", "psnr_hole", "psnr_known", "texture", "spread", "frechet", "frechet_over"),
    *("perceptual", "perceptual_over"),
    *("top1", "top5", "f1", "auroc", "nll", "ece", "images_seen", "images_per_second", "difference_to"),
    *("psnr_difference", "psnr_difference_low", "psnr_difference_high"),
    *("frechet_difference", "frechet_difference_low", "frechet_difference_high"),
)
VARYING = ("group", "seed", "data", "image_size", "split", "corruption", "warp")  # shown if the rows differ
OWN = ("restored", "classified")  # methods that are the run's, not baselines
TEXT = ("group", "run", "data", "split", "corruption", "severity", "solver", "warp")  # aligned left


def _block(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Rows of one block are about the same degraded images."""
    data = str(row["data"]), row["image_size"] or 0, row["split"]
    return *data, str(row["corruption"]), row["strength"] or 0.0, str(row["severity"])


def rows(reports: Iterable[Report], *references: Report) -> list[Row]:
    """The rows of all runs under the names of `COLUMNS`; equal baselines appear once, above the runs of all groups.

    With reference runs, rows have the paired differences in PSNR and Fréchet distance, (value, low, high) or None, to
    the first of these that was evaluated on the same degraded images.
    """
    seen: dict[tuple[Any, ...], Row] = {}
    result = []
    for report in reports:
        for row in report.rows():
            if row["method"] not in OWN:
                own = ("group", "run", "folder", "intervals")
                first = seen.setdefault(tuple((key, value) for key, value in row.items() if key not in own), row)
                if first is not row:
                    first["group"] = row["group"] if row["group"] == first["group"] else None
                    continue
            elif references and "nfe" in row:
                reference = next((one for one in references if report.comparable(one, row["nfe"])), references[0])
                row["difference_to"] = reference.name
                row["psnr_difference"] = report.difference(reference, row["nfe"])
                row["frechet_difference"] = report.frechet_difference(reference, row["nfe"])
            result.append(row)
    # The sort is stable: within a block baselines come first, then the runs in their order, NFE ascending.
    return sorted(result, key=lambda row: (*_block(row), row["method"] in OWN))


def shown_columns(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """(name, heading, decimals) of the columns that have something to show."""
    # Distances over different networks, or of different numbers of images, cannot be compared.
    frechet = {f"{row['frechet_over']}, n = {row['n']}" for row in rows if "frechet_over" in row}
    perceptual = {row["perceptual_over"] for row in rows if "perceptual_over" in row}
    reference = next((row["difference_to"] for row in rows if "difference_to" in row), "")
    names = "group run seed data image_size split corruption strength severity nfe solver warp".split()
    columns = [
        *((name, "NFE" if name == "nfe" else name, 2) for name in names),
        ("psnr", "PSNR", 2),
        ("psnr_difference", f"ΔPSNR vs\n{reference}", 2),
        ("ssim", "SSIM", 3),
        ("psnr_hole", "hole", 2),
        ("psnr_known", "known", 2),
        ("texture", "texture", 2),
        ("spread", "spread", 3),
        ("frechet", "Fréchet" + (f"\n{frechet.pop()}" if len(frechet) == 1 else ""), 2),
        ("perceptual", "perceptual" + (f"\n{perceptual.pop()}" if len(perceptual) == 1 else ""), 3),
        ("frechet_difference", f"ΔFréchet vs\n{reference}", 2),
        *((name, name, 3) for name in ("top1", "top5", "f1", "auroc", "nll", "ece")),
        ("images_per_second", "images/s", 1),
    ]
    values = {name: {row.get(name) for row in rows} - {None} for name, _, _ in columns}
    return [column for column in columns if len(values[column[0]]) > (column[0] in VARYING)]


def cell(row: Row, name: str, decimals: int) -> str:
    value = row["method"] if name == "run" and row["method"] not in OWN else row.get(name)
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return "{:+.{d}f} [{:+.{d}f}, {:+.{d}f}]".format(*value, d=decimals)
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Row]) -> Table:
    """One row for each method and NFE.

    PSNR is in dB, also over the hole and the known region. Texture: gradient energy in the hole, restored over clean;
    1 is right. Spread: standard deviation over samples in the hole. A dash is a value that was not measured.
    """
    columns = shown_columns(rows)
    groups = {row["group"] for row in rows}
    result = Table(title=groups.pop() if len(groups) == 1 else None)
    for name, heading, _ in columns:
        text = name in TEXT
        result.add_column(heading, justify="left" if text else "right", overflow="fold" if text else "ellipsis")
    previous: tuple[Any, ...] | None = None
    for row in rows:
        if previous not in (None, _block(row)):
            result.add_section()
        previous = _block(row)
        cells = [cell(row, name, decimals) for name, _, decimals in columns]
        result.add_row(*cells, style="dim" if row["method"] not in OWN else None)
    return result


def markdown(rows: Sequence[Row]) -> str:
    """The same table in Markdown."""
    columns = shown_columns(rows)
    lines = [[heading.replace("\n", " ") for _, heading, _ in columns]]
    lines.append([":--" if name in TEXT else "--:" for name, _, _ in columns])
    lines += [[cell(row, name, decimals) for name, _, decimals in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def print_wide(content: Table) -> None:
    # A pipe has no width, and rich's default of 80 columns would fold every cell.
    Console(width=None if sys.stdout.isatty() else 160).print(content)


def print_table(rows: Sequence[Row]) -> None:
    print_wide(table(rows))


def show(reports: Iterable[Report]) -> None:
    """Prints the table of the runs."""
    print_table(rows(reports))


def write_csv(rows: Iterable[Row], path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Writes the columns with all digits; a value that was not measured is empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            intervals = {name: value for name, value in row.items() if isinstance(value, tuple)}
            for name, interval in intervals.items():
                row = row | dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))
            writer.writerow(row)
