"""Runs side by side: one table, and curves over corruption strength and over NFE.

python -m restoration.compare outputs/blur_erase --output outputs/comparison
python -m restoration.compare outputs/blur_erase --to outputs/blur_erase/first
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from restoration.config import command, output_folder
from restoration.errors import UserError
from restoration.metrics.bootstrap import Bootstrap, jackknife

__all__ = ["Report", "find", "main", "show", "table", "write_csv", "write_curves"]

COLUMNS = (
    *("group", "run", "method", "seed", "corruption", "strength", "severity", "split", "nfe", "solver", "n"),
    *("psnr", "ssim", "psnr_hole", "psnr_known", "texture", "spread", "frechet", "frechet_over"),
    *("images_seen", "images_per_second"),
    *("psnr_less", "psnr_less_low", "psnr_less_high", "frechet_less", "frechet_less_low", "frechet_less_high"),
)


@dataclass(frozen=True)
class Report:
    """One run's metrics.json.

    Attributes:
        folder: the run folder, `outputs/<experiment>/<name>`.
        metrics: the file's content; see the evaluate command. Keys that are not there show as "-".
    """

    folder: Path
    metrics: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Raises UserError where metrics.json cannot be read or has no results."""
        path = Path(folder) / "metrics.json"
        try:
            metrics = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); evaluate the run again") from error
        if not isinstance(metrics, dict) or not isinstance(metrics.get("restored"), dict):
            raise UserError(f"{path} holds no results under 'restored'; evaluate the run again")
        return cls(Path(folder), metrics)

    @property
    def run(self) -> Mapping[str, Any]:
        return self.metrics.get("run") or {}

    @property
    def group(self) -> str:
        """What a sweep's runs have in common."""
        return str(self.run.get("experiment") or self.folder.resolve().parent.name)

    @property
    def name(self) -> str:
        """The run's, and the folder of an evaluation that was made later."""
        name = str(self.run.get("name") or self.folder.resolve().name)
        return f"{name}/{self.folder.resolve().name}" if "checkpoint" in self.run else name

    @property
    def strength(self) -> float | None:
        return self.run.get("strength")

    def rows(self) -> list[dict[str, Any]]:
        """The run and the baselines on its images, as rows of `COLUMNS`: identity, classical, then restored."""
        common = {
            "group": self.group,
            "run": self.name,
            "corruption": self.run.get("corruption"),
            "strength": self.strength,
            "severity": self.run.get("severity"),
            "split": self.run.get("split", "test"),
            "n": self.metrics.get("n"),
        }
        baselines = {"identity": self.metrics.get("identity") or {}, **(self.metrics.get("classical") or {})}
        rows = [{**common, "method": method, **_figures(values)} for method, values in baselines.items()]
        extra = {
            "seed": self.run.get("seed"),
            "images_seen": self.run.get("images_seen"),
            "images_per_second": self.metrics.get("images_per_second"),
        }
        points = sorted(self.metrics.get("by_nfe") or [], key=lambda point: point["nfe"])
        points = points or [self.metrics["restored"]]
        return rows + [{**common, **extra, "method": "restored", **_figures(point)} for point in points]

    def per_image(self, nfe: int) -> dict[int, tuple[float, float]]:
        """PSNR at that NFE and PSNR of the untouched input, by image index; nothing where no file has them."""
        path = self.folder / "per_image.csv"
        if not path.is_file():
            return {}
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["nfe"] == str(nfe)]
        return {int(row["index"]): (float(row["psnr"]), float(row["identity_psnr"])) for row in rows}

    def less(self, other: "Report", nfe: int) -> tuple[float, float, float] | None:
        """PSNR at that NFE less that of another run, image by image: mean and 95 % interval (bootstrap over images).

        None where the two were not judged on the same damaged images.
        """
        own, theirs = self.per_image(nfe), other.per_image(nfe)
        # The damage is the same to rounding: devices and batch sizes add in another order.
        if not own or own.keys() != theirs.keys() or any(abs(own[i][1] - theirs[i][1]) > 1e-3 for i in own):
            return None
        return Bootstrap(len(own)).mean(np.array([own[index][0] - theirs[index][0] for index in sorted(own)]))

    def frechet_less(self, other: "Report", nfe: int) -> tuple[float, float, float] | None:
        """The Fréchet distance at that NFE less another run's, with its 95 % interval (jackknife over images).

        None where `less` is, or where the two were not judged by the same network's features.
        """
        if self.less(other, nfe) is None:
            return None
        own, theirs = self._frechet(nfe), other._frechet(nfe)
        if own is None or theirs is None or own[0] != theirs[0]:
            return None
        difference = own[1] - theirs[1]
        left_out = [one - another for one, another in zip(own[2], theirs[2], strict=True)]
        return difference, *jackknife(difference, left_out)

    def _frechet(self, nfe: int) -> tuple[str, float, list[float]] | None:
        """Name, distance, and distances with a group of images left out."""
        for point in self.metrics.get("by_nfe") or []:
            for key, value in point.items():
                if point["nfe"] == nfe and key.startswith("frechet_") and key.endswith("_left_out"):
                    name = key.removesuffix("_left_out")
                    return name, point[name], value
        return None


def _figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """A result's figures under this module's column names."""
    names = ("nfe", "solver", "psnr", "ssim", "psnr_hole", "psnr_known", "images_per_second")
    figures = {name: values[name] for name in names if values.get(name) is not None}
    for name, key in (("texture", "texture_ratio"), ("spread", "spread_hole")):
        if values.get(key) is not None:
            figures[name] = values[key]
    # Named by the network behind the features; distances over different networks are not comparable.
    over = sorted(key for key in values if key.startswith("frechet_") and isinstance(values[key], int | float))
    if over:
        figures |= {"frechet": values[over[0]], "frechet_over": over[0].removeprefix("frechet_")}
    return figures


def find(paths: Iterable[str | Path]) -> list[Report]:
    """The evaluated runs in and below the paths, sorted by group, strength and name.

    Raises:
        UserError: a path is missing, no metrics.json below any, or one is damaged.
    """
    folders: set[Path] = set()
    places = [Path(path) for path in paths]
    for path in places:
        if not path.exists():
            raise UserError(f"no run folder at {path}")
        folders |= {file.parent for file in ([path] if path.name == "metrics.json" else path.rglob("metrics.json"))}
    if not folders:
        raise UserError(f"no metrics.json in or below {', '.join(map(str, places))}; train or evaluate a run first")
    reports = [Report.load(folder) for folder in folders]
    return sorted(reports, key=lambda report: (report.group, report.strength or 0.0, report.name, str(report.folder)))


def _block(row: Mapping[str, Any]) -> tuple[str, str, float, str, str]:
    """Rows of one block are about the same images, damaged alike."""
    return row["group"], str(row["corruption"]), row["strength"] or 0.0, str(row["severity"]), row["split"]


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

    def varies(name: str) -> bool:
        return len({row[name] for row in rows if row.get(name) is not None}) > 1

    columns: list[tuple[str, Callable[[dict[str, Any]], Any], int]] = [
        ("run", lambda row: row["run"] if row["method"] == "restored" else row["method"], 0),
        *((name, lambda row, name=name: row.get(name), 0) for name in ("seed", "corruption", "split") if varies(name)),
        ("strength", lambda row: row["strength"], 2),
        ("severity", lambda row: row["severity"], 2),
        ("NFE", lambda row: row.get("nfe"), 0),
        ("solver", lambda row: row.get("solver"), 0),
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
    shown = [column for column in columns if column[0] == "run" or any(column[1](row) is not None for row in rows)]
    grid = Table(title=groups.pop() if len(groups) == 1 else None)
    if groups:
        grid.add_column("group")
    for heading, _, _ in shown:
        text = heading in ("run", "corruption", "split", "severity", "solver")
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
