"""A run as its folder tells of it: metrics.json and per_image.csv."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restoration.errors import UserError
from restoration.metrics.bootstrap import Bootstrap, jackknife

__all__ = ["Report", "find"]


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
        """The run and the baselines on its images, as rows of `compare.COLUMNS`: identity, classical, then restored."""
        common = {
            "group": self.group,
            "run": self.name,
            "data": self.run.get("data"),
            "image_size": self.run.get("image_size"),
            "corruption": self.run.get("corruption"),
            "strength": self.strength,
            "severity": self.run.get("severity"),
            "split": self.run.get("split", "test"),
            "n": self.metrics.get("n"),
        }
        baselines = {"identity": self.metrics.get("identity") or {}, **(self.metrics.get("classical") or {})}
        rows = [{**common, "method": method, **_figures(values)} for method, values in baselines.items()]
        warp = (self.run.get("sampler") or {}).get("warp", [1.0, 1.0])
        extra = {
            "seed": self.run.get("seed"),
            "warp": ", ".join(map(str, warp)),
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
    """A result's figures under `compare`'s column names."""
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
