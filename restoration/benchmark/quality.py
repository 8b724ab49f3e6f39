"""How long runs train until they are as good as the first of them is at its end."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restoration.benchmark.page import Figures
from restoration.errors import UserError

Curve = list[tuple[float, float]]


def time_to_quality(folders: Sequence[Path]) -> Figures:
    """A row for each run folder: minutes of training until its validation PSNR is the first run's last.

    Between two validations the curve is straight. A run that is below the figure throughout has None.

    Raises:
        UserError: a folder has no validation with a time in its metrics.csv, or its run was resumed.
    """
    curves = [curve(folder) for folder in folders]
    target = curves[0][-1][1]
    text = (
        f"Minutes of training, without validations, until the validation PSNR is {target:.2f} dB, where "
        f"`{_name(folders[0])}` ends. They compare runs that trained on the same hardware."
    )
    needed = [reached(points, target) for points in curves]
    assert needed[0] is not None
    rows: list[dict[str, Any]] = [
        {
            "run": _name(folder),
            "minutes in all": points[-1][0] / 60,
            "last PSNR, dB": points[-1][1],
            "minutes to it": None if seconds is None else seconds / 60,
            "ratio": None if seconds is None else seconds / needed[0],
        }
        for folder, points, seconds in zip(folders, curves, needed, strict=True)
    ]
    return Figures("Time to quality", text, rows)


def reached(points: Curve, target: float) -> float | None:
    """Seconds at which a curve of (seconds, value) is first at the target, or None."""
    before = (0.0, -math.inf)
    for seconds, value in points:
        if value >= target:
            if before[1] == -math.inf:
                return seconds
            return before[0] + (seconds - before[0]) * (target - before[1]) / (value - before[1])
        before = seconds, value
    return None


def curve(folder: Path) -> Curve:
    """Validation PSNR over seconds of training, from metrics.csv."""
    file = folder / "metrics.csv"
    if not file.is_file():
        raise UserError(f"no metrics.csv in {folder}; give run folders of restoration.train")
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    times = {int(row["step"]): float(row["train/time"]) for row in rows if row.get("train/time")}
    values = {int(row["step"]): float(row["val/psnr"]) for row in rows if row.get("val/psnr")}
    if not times or not values:
        raise UserError(f"{file} has no validation PSNR with training times; give run folders of restoration.train")
    if list(times.values()) != sorted(times.values()):
        raise UserError(f"{folder} was resumed, and its times begin again; give a run without an interruption")
    return [(_at(times, step), value) for step, value in sorted(values.items())]


def _at(times: dict[int, float], step: int) -> float:
    """Seconds at a step, from the logged step that is nearest."""
    near = min(times, key=lambda logged: abs(logged - step))
    return times[near] * (step + 1) / (near + 1)


def _name(folder: Path) -> str:
    """Experiment and name, as in outputs/<experiment>/<name>."""
    return "/".join(folder.resolve().parts[-2:])
