"""From per-image figures to the tables of a report."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.metrics.bootstrap import Bootstrap

__all__ = [
    "Columns",
    "Groups",
    "group_table",
    "kind_groups",
    "plain",
    "severity_groups",
    "stack_columns",
    "summary",
]

Columns = dict[str, np.ndarray]
"""Figures of one method: name -> (n,), NaN where an image has no such figure."""


def stack_columns(batches: list[dict[str, Tensor]]) -> Columns:
    """Joins the figures (B,) of successive batches."""
    names = batches[0] if batches else ()
    return {name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in names}


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


Groups = list[tuple[dict[str, Any], np.ndarray]]
"""What names a group of images, and which they are: bool (n,)."""


def severity_groups(severity: np.ndarray, bins: int) -> Groups:
    """The images in equal intervals of severity (n,), `low` to `high`; those that have any."""
    place = np.minimum((severity * bins).astype(int), bins - 1)
    return [
        ({"low": float(number / bins), "high": float((number + 1) / bins)}, place == number)
        for number in np.unique(place)
    ]


def kind_groups(kinds: list[str]) -> Groups:
    """The images by the kind of their damage, `kind`; no group where the corruption names none."""
    return [({"kind": kind}, np.array([own == kind for own in kinds])) for kind in sorted(set(kinds))]


def group_table(
    groups: Groups, bootstrap: Bootstrap, identity: Columns, restored: dict[int, Columns]
) -> list[dict[str, Any]]:
    """One entry per group of images.

    Each has the group's name, `n`, the identity's figures, and per NFE the restored figures with their gains: restored
    less identity, image by image.
    """
    names = ("psnr", "psnr_hole", "psnr_known")
    entries = []
    for name, chosen in groups:
        inside = np.where(chosen, 1.0, np.nan)
        entry: dict[str, Any] = {
            **name,
            "n": int(chosen.sum()),
            "identity": _with_intervals({figure: bootstrap.mean(identity[figure] * inside) for figure in names}),
            "by_nfe": [],
        }
        for nfe, columns in restored.items():
            figures = {figure: columns[figure] for figure in names}
            figures["gain"] = columns["psnr"] - identity["psnr"]
            figures["gain_known"] = columns["psnr_known"] - identity["psnr_known"]
            table = _with_intervals({figure: bootstrap.mean(values * inside) for figure, values in figures.items()})
            entry["by_nfe"].append({"nfe": nfe, **table})
        entries.append(entry)
    return entries
