"""One HTML page about several runs, complete in itself: no server, no network, no other file."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from restoration.errors import UserError
from restoration.report import chart, page_charts
from restoration.report.folder import Report
from restoration.report.samples import Pictures
from restoration.report.settings import differences, run_file
from restoration.report.table import TEXT, Row, cell, rows, shown_columns
from restoration.report.verdict import against, alone, findings, reference_of
from restoration.report.write import SAMPLES

LIMIT = 5_000_000  # bytes of a page
TEMPLATES = Path(__file__).parent / "templates"


def page(reports: Sequence[Report], chosen: Report | None = None) -> str:
    """The page as HTML. The same runs give the same page, to the byte.

    It has the verdicts, the table, charts over strength, severity, NFE and training, what the configs do not have in
    common, and the same pictures side by side. What the run folders do not hold is left out.

    Args:
        reports: in the order of their numbers on the page.
        chosen: the run that the others are compared with; by default, for each, the first on the same degraded images.

    Raises:
        UserError: a metrics.json without the figures of a page, a damaged file, or more pictures than fit into `LIMIT`.
    """
    for report in reports:
        _check(report)
    names = _names(reports)
    others = [reference_of(reports, number, chosen) for number in range(len(reports))]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (TEMPLATES / "page.js").read_text()
    pictures = Pictures(reports)
    strength_names, strength = page_charts.by_strength(reports)
    configured, settings = differences(reports)
    content: dict[str, Any] = {
        **{"names": names, "style": chart.style, "drawing": chart},
        "css": Markup((TEMPLATES / "style.css").read_text()),
        "script": Markup(script),
        # Only this script may run, whatever a name or a config holds.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "groups": sorted({report.group for report in reports}),
        "verdicts": _verdicts(reports, names, others),
        "notes": notes(reports),
        **_table(reports, names, others, chosen),
        **{"strength": strength, "strength_names": strength_names},
        "severity": page_charts.by_severity(reports, names),
        "nfe": page_charts.by_nfe(reports, names),
        "training": page_charts.training(reports, names),
        **{"configured": configured, "settings": settings},
        "pictures": pictures.table,
        "pictured": sorted({number for picture in pictures.table for number in picture["runs"]}),
        "steps": sorted({int(n) for picture in pictures.table for run in picture["runs"].values() for n in run["nfe"]}),
    }
    template = environment.get_template("page.html")
    # How the pictures are stored follows from what the rest leaves of the limit.
    rest = template.render(content, images=[], how="")
    images, how = pictures.encode(LIMIT - len(rest.encode()) - 200 - 4 * len(pictures.images))
    return template.render(content, images=images, how=how)


def check_free(path: Path, overwrite: bool) -> None:
    """UserError if the file is there and may not be replaced."""
    if path.is_dir() or (path.exists() and not overwrite):
        raise UserError(f"already there: {path}; add --overwrite, or give another --html FILE")


def notes(reports: Sequence[Report]) -> list[str]:
    """A line for each run whose folder lacks something that a page shows."""
    said = []
    for report in reports:
        needed = {"per_image.csv": "differences", str(SAMPLES): "pictures"}
        lacks = {name: what for name, what in needed.items() if not (report.folder / name).exists()}
        told = [f"{' and '.join(lacks.values())} ({', '.join(lacks)}: evaluate it again)"] if lacks else []
        lacks = {"config.yaml": "config", "metrics.csv": "training curves"}
        told += [f"{what} ({name})" for name, what in lacks.items() if run_file(report, name) is None]
        if told:
            said.append(f"{report.folder} has no {', no '.join(told)}")
    return said


def _check(report: Report) -> None:
    """UserError without the figures that a page needs."""

    def number(values: Any, key: str) -> bool:
        return isinstance(values, dict) and isinstance(values.get(key), int | float)

    points = report.metrics.get("by_nfe") or []
    wrong = [f"{part}.psnr" for part in ("identity", "restored") if not number(report.metrics.get(part), "psnr")]
    if not all(number(point, "nfe") for point in points):
        wrong.append("by_nfe[].nfe")
    if wrong:
        where = report.folder / "metrics.json"
        raise UserError(f"{where} lacks {', '.join(wrong)}, which a page needs; evaluate the run again")


def _names(reports: Sequence[Report]) -> list[str]:
    """What the page calls each run: its name; with the group, or else the folder, where several have the same."""
    names = [report.name for report in reports]
    for longer in (lambda report: f"{report.group}/{report.name}", lambda report: str(report.folder)):
        names = [
            name if names.count(name) == 1 else longer(report) for name, report in zip(names, reports, strict=True)
        ]
    return names


def _verdicts(reports: Sequence[Report], names: Sequence[str], others: Sequence[Report | None]) -> list[dict[str, Any]]:
    """One sentence for each run, and the differences that it is about."""
    said = []
    references = {other.folder for other in others if other is not None}
    for report, name, other in zip(reports, names, others, strict=True):
        found = findings(report, other) if other is not None else []
        if other is not None and found:
            text = f"{name} against {_called(other, reports, names)}: {against(found)}."
        elif report.folder in references:
            text = f"{name} (others are compared with it): {alone(report)}."
        else:
            text = f"{name} (no other run has the same degraded images): {alone(report)}."
        said.append({"text": text, "findings": found})
    return said


def _called(report: Report, reports: Sequence[Report], names: Sequence[str]) -> str:
    return next((name for one, name in zip(reports, names, strict=True) if one.folder == report.folder), report.name)


def _compared(report: Report, other: Report | None, row: Row) -> bool:
    """Whether the run that it is compared with was evaluated at the NFE of this row."""
    return other is not None and report.comparable(other, row["nfe"])


def _table(
    reports: Sequence[Report], names: Sequence[str], others: Sequence[Report | None], chosen: Report | None
) -> dict[str, Any]:
    """The rows and columns of `table.rows`, as text, with the number of the run and the intervals."""
    found = rows(reports, *(reports if chosen is None else [chosen]))
    columns = shown_columns(found)
    numbers = {report.folder: number for number, report in enumerate(reports)}
    table = []
    for row in found:
        number = numbers[row["folder"]] if row["method"] == "restored" else None
        cells = []
        for name, _, decimals in columns:
            text, _, interval = cell(row, name, decimals).partition(" [")
            if name in row["intervals"]:
                interval = ", ".join(f"{end:.{decimals}f}" for end in row["intervals"][name])
            elif not name.endswith("_difference"):
                text, interval = cell(row, name, decimals), ""
            elif number is None or not _compared(reports[number], others[number], row):  # to itself, or to none
                text, interval = "-", ""
            exact = row[name] if isinstance(row.get(name), int | float) and text != "-" else None
            cells.append({"text": "–" if text == "-" else text, "exact": exact})
            cells[-1] |= {"interval": interval.removesuffix("]"), "left": name in TEXT, "run": name == "run"}
        table.append({"number": number, "cells": cells})
    compared = {_called(other, reports, names) for other in others if other is not None}
    whom = compared.pop() if len(compared) == 1 else "the first run on the same images"
    headings = [
        f"{text.partition(' vs')[0]} vs\n{whom}" if "_difference" in name else text for name, text, _ in columns
    ]
    return {"headings": headings, "left": [name in TEXT for name, _, _ in columns], "rows": table}
