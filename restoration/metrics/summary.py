"""From per-image figures to the tables of a report."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.metrics.bootstrap import Bootstrap

__all__ = ["Columns", "plain", "severity_table", "stack_columns", "summary"]

Columns = dict[str, np.ndarray]
"""Figures of one method: name -> (n,), NaN where an image has no such figure."""


def stack_columns(batches: list[dict[str, Tensor]]) -> Columns:
    """Joins the figures (B,) of successive batches."""
    return {name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in batches[0]}


def plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON cannot say: they become None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_intervals(figures: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, (value, low, high) in figures.items():
        table |= {name: value, f"{name}_ci": [low, high]}
    return table


def summary(bootstrap: Bootstrap, columns: Columns, texture_clean: np.ndarray) -> dict[str, Any]:
    """Mean and interval of each column; `texture` becomes `texture_ratio`, a ratio of sums."""
    figures = {name: bootstrap.mean(values) for name, values in columns.items() if name != "texture"}
    figures["texture_ratio"] = bootstrap.ratio(columns["texture"], texture_clean)
    return _with_intervals(figures)


def severity_table(
    bootstrap: Bootstrap, severity: np.ndarray, identity: Columns, restored: dict[int, Columns], bins: int
) -> list[dict[str, Any]]:
    """One entry per equal interval of severity that has images.

    Each has `low`, `high`, `n`, the identity's figures, and per NFE the restored figures with their gains: restored
    less identity, image by image.
    """
    place = np.minimum((severity * bins).astype(int), bins - 1)
    names = ("psnr", "psnr_hole", "psnr_known")
    entries = []
    for number in np.unique(place):
        inside = np.where(place == number, 1.0, np.nan)
        entry: dict[str, Any] = {
            "low": float(number / bins),
            "high": float((number + 1) / bins),
            "n": int((place == number).sum()),
            "identity": _with_intervals({name: bootstrap.mean(identity[name] * inside) for name in names}),
            "by_nfe": [],
        }
        for nfe, columns in restored.items():
            figures = {name: columns[name] for name in names}
            figures["gain"] = columns["psnr"] - identity["psnr"]
            figures["gain_known"] = columns["psnr_known"] - identity["psnr_known"]
            table = _with_intervals({name: bootstrap.mean(values * inside) for name, values in figures.items()})
            entry["by_nfe"].append({"nfe": nfe, **table})
        entries.append(entry)
    return entries
