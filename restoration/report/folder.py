"""The results in a run folder: metrics.json and per_image.csv."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from restoration.errors import UserError
from restoration.metrics.bootstrap import bootstrap_mean, jackknife

Interval = tuple[float, float, float]  # (value, low, high) at the 95 % level


@dataclass(frozen=True)
class Report:
    """One evaluation of a run."""

    folder: Path  # the run folder, `outputs/<experiment>/<name>`, or the folder of a later evaluation
    metrics: Mapping[str, Any]  # content of metrics.json; missing keys show as "-" in tables

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Raises UserError if metrics.json cannot be read or has no results."""
        path = Path(folder) / "metrics.json"
        try:
            metrics = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); evaluate the run again") from error
        if not isinstance(metrics, dict) or not (isinstance(metrics.get("restored"), dict) or "top1" in metrics):
            raise UserError(f"{path} holds no results under 'restored' or 'top1'; evaluate the run again")
        return cls(Path(folder), metrics)

    @property
    def run(self) -> Mapping[str, Any]:
        return self.metrics.get("run") or {}

    @property
    def group(self) -> str:
        """The experiment, which the runs of a sweep share."""
        return str(self.run.get("experiment") or self.folder.resolve().parent.name)

    @property
    def name(self) -> str:
        """The run's name; for a later evaluation also its folder."""
        name = str(self.run.get("name") or self.folder.resolve().name)
        return f"{name}/{self.folder.resolve().name}" if "checkpoint" in self.run else name

    def rows(self) -> list[dict[str, Any]]:
        """Rows of `table.COLUMNS`: the baselines on the same images (identity, then classical), then each NFE.

        Beside these: `folder`, and `intervals`, column -> [low, high].
        """
        common = {name: self.run.get(name) for name in ("data", "image_size", "corruption", "strength", "severity")}
        common |= {"group": self.group, "run": self.name, "split": self.run.get("split", "test")}
        common |= {"n": self.metrics.get("n"), "folder": self.folder}
        baselines = {"clean": self.metrics.get("clean") or {}, "identity": self.metrics.get("identity") or {}}
        baselines |= self.metrics.get("classical") or {}
        rows = [{**common, "method": name, **_row(values)} for name, values in baselines.items() if values]
        common |= {name: self.run.get(name) for name in ("seed", "images_seen")}
        if "restored" not in self.metrics:
            return [{**common, "method": "classified", **_row(self.metrics)}]
        common["images_per_second"] = self.metrics.get("images_per_second")
        common["warp"] = ", ".join(map(str, (self.run.get("sampler") or {}).get("warp", [1.0, 1.0])))
        points = sorted(self.metrics.get("by_nfe") or [], key=lambda point: point["nfe"])
        points = points or [self.metrics["restored"]]
        return rows + [{**common, "method": "restored", **_row(point)} for point in points]

    @cached_property
    def _images(self) -> dict[str, list[dict[str, str]]]:
        """NFE -> the rows of per_image.csv."""
        rows: dict[str, list[dict[str, str]]] = defaultdict(list)
        path = self.folder / "per_image.csv"
        if path.is_file():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    rows[row["nfe"]].append(row)
        return rows

    def per_image(self, nfe: int, metric: str = "psnr") -> dict[int, tuple[float, float]]:
        """Image index -> the metric at that NFE and that of the degraded image; empty if per_image.csv has it not.

        An image without the metric, such as the PSNR in a hole that it does not have, has NaN.
        """
        return {
            int(row["index"]): (float(row[metric] or "nan"), float(row[f"identity_{metric}"] or "nan"))
            for row in self._images.get(str(nfe), ())
            if row.keys() >= {metric, f"identity_{metric}"}
        }

    def comparable(self, other: "Report", nfe: int) -> bool:
        """Whether both were evaluated on the same degraded images at that NFE."""
        own, others = self.per_image(nfe), other.per_image(nfe)
        # Devices and batch sizes sum in another order, so degraded images are equal up to rounding.
        return bool(own) and own.keys() == others.keys() and all(abs(own[i][1] - others[i][1]) <= 1e-3 for i in own)

    def difference(self, other: "Report", nfe: int, metric: str = "psnr") -> Interval | None:
        """Mean of a metric at that NFE minus the other run's, paired by image (bootstrap interval over images).

        Args:
            metric: a column of per_image.csv: psnr, ssim, psnr_hole or psnr_known.

        Returns:
            None if the two are not `comparable`, or no image has the metric in both.
        """
        own, others = self.per_image(nfe, metric), other.per_image(nfe, metric)
        if not self.comparable(other, nfe) or own.keys() != others.keys():
            return None
        difference = bootstrap_mean(np.array([own[index][0] - others[index][0] for index in sorted(own)]))
        return None if math.isnan(difference[0]) else difference

    def gain(self, nfe: int) -> Interval | None:
        """Mean PSNR at that NFE minus that of the degraded images, paired by image; None without per_image.csv."""
        images = self.per_image(nfe).values()
        return bootstrap_mean(np.array([psnr - identity for psnr, identity in images])) if images else None

    def frechet_difference(self, other: "Report", nfe: int) -> Interval | None:
        """The Fréchet distance at that NFE minus the other run's (jackknife interval over images).

        None if the two are not `comparable`, or if the distances are over different networks.
        """
        own, others = self._frechet(nfe), other._frechet(nfe)
        if own is None or others is None or own[0] != others[0] or not self.comparable(other, nfe):
            return None
        difference = own[1] - others[1]
        left_out = [one - another for one, another in zip(own[2], others[2], strict=True)]
        return difference, *jackknife(difference, left_out)

    def _frechet(self, nfe: int) -> tuple[str, float, list[float]] | None:
        """Name, distance, and the distances without each group of images."""
        for point in self.metrics.get("by_nfe") or []:
            for key, value in point.items():
                if point["nfe"] == nfe and key.startswith("frechet_") and key.endswith("_left_out"):
                    name = key.removesuffix("_left_out")
                    return name, point[name], value
        return None


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    """A method's metrics under the names of `table.COLUMNS`."""
    columns = {name: name for name in ("nfe", "solver", "psnr", "ssim", "psnr_hole", "psnr_known", "images_per_second")}
    columns |= {"texture": "texture_ratio", "spread": "spread_hole"}
    columns |= {name: name for name in ("top1", "top5", "f1", "auroc", "nll", "ece")}
    row = {name: values[key] for name, key in columns.items() if values.get(key) is not None}
    # Distances are named after their network; those over different networks cannot be compared.
    # The first is over the encoder of the evaluation, a further one over its classifier.
    for kind in ("frechet", "perceptual"):
        keys = [key for key in values if key.startswith(f"{kind}_") and isinstance(values[key], int | float)]
        if keys:
            row |= {kind: values[keys[0]], f"{kind}_over": keys[0].removeprefix(f"{kind}_")}
            columns[kind] = keys[0]
    intervals = {name: values.get(f"{key}_ci") or [None] for name, key in columns.items()}
    row["intervals"] = {name: interval for name, interval in intervals.items() if None not in interval}
    return row


def find(paths: Iterable[str | Path]) -> list[Report]:
    """The evaluations in and below the paths, sorted by group, strength and name.

    Raises:
        UserError: a path is missing, no metrics.json in or below one, or one is damaged.
    """
    folders: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"no run folder at {path}")
        found = {file.parent for file in ([path] if path.name == "metrics.json" else path.rglob("metrics.json"))}
        if not found:
            raise UserError(f"no metrics.json in or below {path}; train or evaluate a run first")
        folders |= found
    reports = [Report.load(folder) for folder in folders]
    return sorted(
        reports, key=lambda report: (report.group, report.run.get("strength") or 0.0, report.name, str(report.folder))
    )
