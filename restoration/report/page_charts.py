"""The charts of the page: over corruption strength, severity, NFE and training."""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from restoration.report.chart import Chart, Line, Point
from restoration.report.curves import NFE_LABEL
from restoration.report.folder import Report
from restoration.report.settings import run_file
from restoration.report.verdict import nfe_of

QUALITY = {"psnr": "PSNR (dB), higher is better", "ssim": "SSIM, higher is better"}
SECTIONS = 150  # points of a training curve at most; each is the mean over a section of the training

# Points, and the run's number or name of the line.
Points = dict[Any, list[Point]]


def _point(x: float, values: Mapping[str, Any], key: str) -> list[Point]:
    """One point of a metric with its interval; none if it was not measured."""
    if not isinstance(values.get(key), int | float):
        return []
    low, high = values.get(f"{key}_ci") or (None, None)
    return [Point(x, values[key], low, high)]


def _at(report: Report, nfe: int) -> Mapping[str, Any]:
    return next((point for point in report.metrics.get("by_nfe") or [] if point["nfe"] == nfe), {})


def frechet_key(reports: Iterable[Report]) -> str | None:
    """The metric's name if all runs have the distance over one network, of equally many images; else None."""
    found = set()
    for report in reports:
        keys = {
            key
            for point in report.metrics.get("by_nfe") or []
            for key in point
            if key.startswith("frechet_") and not key.endswith(("_ci", "_left_out", "_samples"))
        }
        found |= {(key, report.metrics.get("n")) for key in keys}
    return found.pop()[0] if len(found) == 1 else None


def _metrics(reports: Iterable[Report]) -> dict[str, str]:
    key = frechet_key(reports)
    return QUALITY | ({key: f"Fréchet distance ({key.removeprefix('frechet_')}), lower is better"} if key else {})


def _lines(points: Points, names: Sequence[str], several: bool = False) -> list[Line]:
    """Lines of runs by their numbers; with `several`, only those of more than one point."""
    chosen = {number: found for number, found in points.items() if len(found) > several}
    return [Line(names[number], str(number + 1), found, number) for number, found in chosen.items()]


def _baseline(points: Iterable[list[Point]], name: str = "degraded") -> list[Line]:
    """The line of the degraded images, if all runs have the same one."""
    found = {tuple((point.x, round(point.y, 3)) for point in line): line for line in points if line}
    return [Line(name, name, line) for line in found.values()] if len(found) == 1 else []


def by_strength(reports: Sequence[Report]) -> tuple[list[str], list[Chart]]:
    """Names of the sweeps, and a chart of each metric at the fewest and the most NFE; none without a sweep.

    A sweep is runs whose command lines differ in the strength only.
    """
    sweeps: dict[tuple[Any, ...], list[Report]] = defaultdict(list)
    for report in reports:
        if report.run.get("strength") is not None:
            given = [text.lstrip("+") for text in report.run.get("overrides") or []]
            given = [text for text in given if not text.startswith("corruption.strength=")]
            sweeps[report.group, report.run.get("split", "test"), *given].append(report)
    sweeps = {key: found for key, found in sweeps.items() if len({one.run["strength"] for one in found}) > 1}
    shared = set.intersection(*map(set, sweeps)) if sweeps else set()
    names = [", ".join(part for part in key if part not in shared) or key[0] for key in sweeps]
    every = sorted({nfe for found in sweeps.values() for report in found for nfe in nfe_of(report)})
    charts = []
    for nfe in dict.fromkeys([*every[:1], *every[-1:]]):
        for metric, title in _metrics(report for found in sweeps.values() for report in found).items():
            lines, degraded = [], []
            for number, found in enumerate(sweeps.values()):
                ordered = sorted(found, key=lambda report: report.run["strength"])
                points = [p for one in ordered for p in _point(one.run["strength"], _at(one, nfe), metric)]
                base = [p for one in ordered for p in _point(one.run["strength"], one.metrics["identity"], metric)]
                degraded.append(base)
                if len(points) > 1:
                    lines.append(Line(names[number], chr(65 + number % 26), points, number))
            if lines:
                charts.append(Chart(f"{title}: {nfe} NFE", "corruption strength", lines + _baseline(degraded)))
    return names, charts


def by_severity(reports: Sequence[Report], names: Sequence[str]) -> list[Chart]:
    """PSNR, and what restoring gains, over the severity of single images, and PSNR in the hole over its share."""

    def chart(part: str, metric: str, title: str, x_label: str) -> Iterator[Chart]:
        points: Points = defaultdict(list)
        degraded: Points = defaultdict(list)
        for number, report in enumerate(reports):
            for entry in report.metrics.get(part) or []:
                place = (entry["low"] + entry["high"]) / 2
                nfe = report.metrics["restored"].get("nfe")
                values: Mapping[str, Any] = next((point for point in entry["by_nfe"] if point["nfe"] == nfe), {})
                points[number] += _point(place, values, metric)
                degraded[number] += _point(place, entry["identity"], metric)
        if lines := _lines(points, names, several=True):
            yield Chart(f"{title}, higher is better", x_label, lines + _baseline(degraded.values()))

    severity = "severity of an image (middle of its interval)"
    return [
        *chart("by_severity", "psnr", "PSNR (dB)", severity),
        *chart("by_severity", "gain", "PSNR above the degraded image (dB)", severity),
        *chart("by_hole", "psnr_hole", "PSNR in the hole (dB)", "erased share of an image"),
    ]


def by_nfe(reports: Sequence[Report], names: Sequence[str]) -> list[Chart]:
    """PSNR and Fréchet distance over NFE, and one over the other: the perception–distortion curve."""
    charts = []
    metrics = _metrics(reports)
    metrics.pop("ssim")
    for metric, title in metrics.items():
        points = {
            number: [point for nfe in nfe_of(report) for point in _point(nfe, _at(report, nfe), metric)]
            for number, report in enumerate(reports)
        }
        if lines := _lines(points, names, several=True):
            base = [_point(nfe, report.metrics["identity"], metric) for report in reports for nfe in nfe_of(report)[:1]]
            alike = len({line[0].y for line in base if line}) == 1 and metric == "psnr"
            ends = [min(p.x for line in lines for p in line.points), max(p.x for line in lines for p in line.points)]
            level = [Line("degraded", "degraded", [Point(x, base[0][0].y) for x in ends])] if alike else []
            charts.append(Chart(title, NFE_LABEL, lines + level, doubling=True))
    key = next((metric for metric in metrics if metric != "psnr"), None)
    if key is not None and len(charts) == 2:
        points = defaultdict(list)
        for number, report in enumerate(reports):
            for nfe in nfe_of(report):
                values = _at(report, nfe)
                if None not in (values.get("psnr"), values.get(key)):
                    points[number].append(Point(values["psnr"], values[key], label="" if number else f"{nfe} NFE"))
        lines = _lines(points, names, several=True)
        title = "Perception over distortion: Fréchet distance, lower is better"
        charts.append(Chart(title, "PSNR (dB), higher is better", lines, values=False))
    return charts


def training(reports: Sequence[Report], names: Sequence[str]) -> list[Chart]:
    """Loss and validation metrics over the optimiser's steps, from metrics.csv."""
    titles = {
        "val/psnr": "Validation PSNR (dB), higher is better",
        "val/frechet": "Validation Fréchet distance, lower is better",
        "train/loss": "Training loss",
    }
    points: dict[str, Points] = {column: {} for column in titles}
    for number, report in enumerate(reports):
        path = run_file(report, "metrics.csv")
        if path is None:
            continue
        found: dict[str, dict[int, float]] = {column: {} for column in titles}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for column in titles:
                    value = _number(row.get(column)), _number(row.get("step"))
                    if None not in value:
                        found[column][int(value[1])] = value[0]  # a resumed run repeats steps; the later one counts
        for column, values in found.items():
            points[column][number] = _sections(sorted(values.items()))
    charts = []
    for column, title in titles.items():
        if lines := _lines(points[column], names, several=True):
            charts.append(
                Chart(title, "optimiser steps", lines, values=len({p.x for n in lines for p in n.points}) <= 12)
            )
    return charts


def _number(text: str | None) -> Any:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sections(values: Sequence[tuple[int, float]]) -> list[Point]:
    """At most `SECTIONS` points, means of as many successive values each."""
    size = -(-len(values) // SECTIONS)
    parts = [values[start : start + size] for start in range(0, len(values), size or 1)]
    return [Point(round(fmean([x for x, _ in part])), fmean([y for _, y in part])) for part in parts]
