"""Tables of a report from the metrics of single images."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.metrics.bootstrap import bootstrap_mean, bootstrap_ratio

QUALITY = ("psnr", "ssim", "psnr_hole", "psnr_known")
SEVERITY_BINS = 4
HOLE_BIN = 0.1  # share of the image

# Metrics of one method: name -> (n,), NaN for an image without that metric.
Columns = dict[str, np.ndarray]
# The labels of each group of images, and a bool (n,) that selects its images.
Groups = list[tuple[dict[str, Any], np.ndarray]]


def stack_columns(batches: list[dict[str, Tensor]]) -> Columns:
    """Concatenates the metrics (B,) of successive batches."""
    names = batches[0] if batches else ()
    return {name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in names}


def means(columns: Columns, seed: int) -> dict[str, Any]:
    """Mean and interval of each column, without its NaN."""
    return _with_intervals({name: bootstrap_mean(column, seed) for name, column in columns.items()})


def _with_intervals(values: dict[str, tuple[float, float, float]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, (value, low, high) in values.items():
        table |= {name: value, f"{name}_ci": [low, high]}
    return table


def summary(columns: Columns, texture_clean: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean and interval of each column; `texture` becomes `texture_ratio`, a ratio of sums."""
    values = {name: bootstrap_mean(column, seed) for name, column in columns.items() if name != "texture"}
    values["texture_ratio"] = bootstrap_ratio(columns["texture"], texture_clean, seed)
    return _with_intervals(values)


def severity_groups(severity: np.ndarray) -> Groups:
    """Equal intervals of the severity (n,) of the known region from `low` to `high`, without the empty ones."""
    edges = np.arange(SEVERITY_BINS + 1) / SEVERITY_BINS
    place = np.minimum((severity * SEVERITY_BINS).astype(int), SEVERITY_BINS - 1)
    return [({"low": edges[bin], "high": edges[bin + 1]}, place == bin) for bin in np.unique(place)]


def hole_groups(hole: np.ndarray) -> Groups:
    """Equal intervals of the erased share (n,) of an image, without images that have no hole."""
    place = (hole / HOLE_BIN).astype(int)
    found = np.unique(place[hole > 0])
    return [({"low": bin * HOLE_BIN, "high": (bin + 1) * HOLE_BIN}, (place == bin) & (hole > 0)) for bin in found]


def kind_groups(kinds: list[str]) -> Groups:
    """One group for each `kind` of degradation; none if the corruption has one kind only."""
    return [({"kind": kind}, np.array([own == kind for own in kinds])) for kind in sorted(set(kinds))]


def group_table(
    groups: Groups, identity: Columns, restored: dict[int, Columns], seed: int, clean: Columns
) -> list[dict[str, Any]]:
    """One entry for each group of images.

    An entry has the group's labels, `n`, the metrics of the clean images (if there are any) and of the identity, and
    for each NFE the metrics of the restored images with their gains: the restored image's PSNR minus the degraded
    image's, paired by image.
    """
    names = ("psnr", "psnr_hole", "psnr_known", *clean)

    def inside(columns: Columns, selected: np.ndarray) -> dict[str, Any]:
        return means({name: column * np.where(selected, 1.0, np.nan) for name, column in columns.items()}, seed)

    entries = []
    for labels, selected in groups:
        entry = {**labels, "n": int(selected.sum())}
        if clean:
            entry["clean"] = inside(clean, selected)
        entry["identity"] = inside({name: identity[name] for name in names}, selected)
        entry["by_nfe"] = []
        for nfe, columns in restored.items():
            table = {name: columns[name] for name in names}
            table["gain"] = columns["psnr"] - identity["psnr"]
            table["gain_known"] = columns["psnr_known"] - identity["psnr_known"]
            entry["by_nfe"].append({"nfe": nfe, **inside(table, selected)})
        entries.append(entry)
    return entries
