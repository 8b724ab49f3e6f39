"""The results of all methods in an evaluation, and the report on them."""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.backbone.perceptual import perceptual_distance
from restoration.batch import Batch
from restoration.classifier import Classifier, Ensemble
from restoration.classifier.grad_cam import ClassMaps, class_maps
from restoration.errors import UserError
from restoration.metrics.bootstrap import bootstrap_mean, jackknife
from restoration.metrics.frechet import FrechetDistance, GroupedStatistics, frechet_distance, frechet_left_out
from restoration.metrics.image import gradient_energy, measure
from restoration.metrics.recognition import recognised
from restoration.metrics.samples import SampledRestorer
from restoration.metrics.summary import (
    QUALITY,
    group_table,
    hole_groups,
    kind_groups,
    means,
    severity_groups,
    stack_columns,
    summary,
)

log = logging.getLogger(__name__)

EXAMPLES = 8  # images in grid.png


def _plain(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass
class Seen:
    """What a classifier sees in the examples of an evaluation."""

    maps: dict[str, ClassMaps]  # for each column of grid.png
    labels: list[int]  # of the rows of grid.png
    classes: list[str]


class MethodResults:
    """Metrics of every image and sample, and their features for the Fréchet distances."""

    def __init__(self) -> None:
        self._samples: list[list[dict[str, Tensor]]] = []
        self._features: dict[str, list[GroupedStatistics]] = defaultdict(list)
        self._first_images: list[dict[str, Tensor]] = []

    def add(
        self,
        samples: list[Tensor],
        batch: Batch,
        distances: Sequence[FrechetDistance] = (),
        clean: Sequence[list[Tensor]] = (),
        classifier: Classifier | Ensemble | None = None,
    ) -> None:
        """Measures the outputs (B, 3, H, W) for a batch, the same number of samples for every batch.

        `clean` are the feature maps of the clean images for each of the distances.
        """
        for number, images in enumerate(samples):
            if number == len(self._samples):
                self._samples.append([])
            figures = measure(images, batch.clean, batch.mask)
            if classifier is not None:
                figures["top1"] = recognised(classifier, images, batch)
            for distance, wanted in zip(distances, clean, strict=True):
                maps = distance.maps(images)
                figures[distance.perceptual] = perceptual_distance(maps, wanted)
                if number == len(self._features[distance.name]):
                    self._features[distance.name].append(GroupedStatistics())
                self._features[distance.name][number].update(distance.pooled(maps), batch.index)
            self._samples[number].append(figures)

    def add_first_images(self, metrics: dict[str, Tensor]) -> None:
        """Adds metrics that are measured on the first images only."""
        if metrics:
            self._first_images.append(metrics)

    def columns(self) -> dict[str, np.ndarray]:
        """Per image, the mean over its samples; NaN for an image without that metric."""
        samples = [stack_columns(batches) for batches in self._samples]
        columns = {name: np.mean([sample[name] for sample in samples], axis=0) for name in samples[0]}
        for name, values in stack_columns(self._first_images).items():
            columns[name] = np.pad(values, (0, len(columns["psnr"]) - len(values)), constant_values=np.nan)
        return columns

    def table(self, texture_clean: np.ndarray, seed: int) -> dict[str, Any]:
        """Means with intervals; with several samples, also the mean of each under `<name>_samples`."""
        table = summary(self.columns(), texture_clean, seed)
        if len(self._samples) > 1:
            for name in QUALITY:
                columns = (stack_columns(batches)[name] for batches in self._samples)
                table[f"{name}_samples"] = [bootstrap_mean(column, seed)[0] for column in columns]
        return table

    def frechet_table(self, name: str, clean: GroupedStatistics) -> dict[str, Any]:
        """The Fréchet distance to the clean images.

        With enough images also its interval (`_ci`) and the distances without each group of images (`_left_out`),
        from which the interval of a difference to another run follows. With several samples also the distance of each.
        """
        whole = clean.joined()
        distances = [frechet_distance(sample.joined(), whole) for sample in self._features[name]]
        table: dict[str, Any] = {name: float(np.mean(distances))}
        left_out = frechet_left_out(self._features[name], clean)
        if left_out is not None:
            table |= {f"{name}_ci": list(jackknife(table[name], left_out)), f"{name}_left_out": left_out}
        if len(distances) > 1:
            table[f"{name}_samples"] = distances
        return table


class Collector:
    """Measures the outputs of all methods batch by batch.

    Args:
        nfe: the NFE of the restored images; each is one method.
        baselines: names of the methods that fill the hole. They have no distances.
        distances: Fréchet and perceptual distance to the clean images over each network.
        classifier: adds `top1`, the share of images that it knows; None leaves it out. The baselines have none.
    """

    def __init__(
        self,
        nfe: list[int],
        baselines: list[str],
        distances: Sequence[FrechetDistance] = (),
        classifier: Classifier | Ensemble | None = None,
    ) -> None:
        self.nfe, self.baselines, self.distances, self.classifier = nfe, baselines, distances, classifier
        self.n = 0
        self.methods: dict[Any, MethodResults] = {name: MethodResults() for name in ("identity", *baselines, *nfe)}
        self._clean_features = {distance.name: GroupedStatistics() for distance in distances}
        self._images: list[dict[str, Tensor]] = []
        self._kinds: list[str] = []
        self._examples: dict[str, list[Tensor]] = {}
        self._labels: list[int] = []

    def add(self, batch: Batch, outputs: dict[Any, list[Tensor]]) -> None:
        """Adds a batch and the outputs for it: method -> samples (B, 3, H, W)."""
        clean = [distance.maps(batch.clean) for distance in self.distances]
        for method, samples in outputs.items():
            judges = () if method in self.baselines else (self.distances, clean, self.classifier)
            self.methods[method].add(samples, batch, *judges)
        for distance, maps in zip(self.distances, clean, strict=True):
            self._clean_features[distance.name].update(distance.pooled(maps), batch.index)
        self._images.append({
            "index": batch.index,
            "severity": batch.severity,
            "hole": batch.mask.float().mean(dim=(1, 2, 3)),
            "texture_clean": gradient_energy(batch.clean, batch.mask),
        })  # fmt: skip
        if self.classifier is not None:
            self._images[-1]["top1"] = recognised(self.classifier, batch.clean, batch)
        self._kinds += batch.kind or []
        if self.n < EXAMPLES:
            restored = {f"NFE {nfe}": outputs[nfe][0] for nfe in self.nfe}
            for title, images in {"degraded": batch.degraded, **restored, "clean": batch.clean}.items():
                self._examples.setdefault(title, []).append(images[: EXAMPLES - self.n].float().cpu())
            self._labels += [] if batch.label is None else batch.label[: EXAMPLES - self.n].tolist()
        self.n += len(batch)

    def report(self, source: SampledRestorer) -> dict[str, Any]:
        """The content of metrics.json, except for the time of the whole evaluation.

        The seed of `source`, which made the restored images, is also that of the bootstrap.
        """
        seed, solver = source.seed, type(source.restorer.sampler).__name__
        images = stack_columns(self._images)
        tables = {method: results.table(images["texture_clean"], seed) for method, results in self.methods.items()}
        for name, features in self._clean_features.items() if self.n > 1 else ():
            for method in ("identity", *self.nfe):
                tables[method] |= self.methods[method].frechet_table(name, features)
        by_nfe = [
            {"nfe": nfe, "solver": solver, **tables[nfe], "images_per_second": source.images_per_second(nfe)}
            for nfe in self.nfe
        ]
        identity = self.methods["identity"].columns()
        restored = {nfe: self.methods[nfe].columns() for nfe in self.nfe}
        clean = {name: column for name, column in images.items() if name == "top1"}
        return _plain({
            "n": self.n,
            "seed": seed,
            **({"clean": means(clean, seed)} if clean else {}),
            "identity": tables["identity"],
            "classical": {name: tables[name] for name in self.baselines} if images["hole"].any() else {},
            "restored": by_nfe[0],
            "by_nfe": by_nfe,
            "by_severity": group_table(severity_groups(images["severity"]), identity, restored, seed, clean),
            "by_hole": group_table(hole_groups(images["hole"]), identity, restored, seed, clean),
            "by_kind": group_table(kind_groups(self._kinds), identity, restored, seed, clean),
        })  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """The content of per_image.csv: one row per image and NFE. `hole` is the share of erased pixels."""
        images = stack_columns(self._images)
        identity = self.methods["identity"].columns()
        rows = []
        for nfe in self.nfe:
            restored = self.methods[nfe].columns()
            columns = {name: images[name] for name in ("index", "severity", "hole")} | {"nfe": np.full(self.n, nfe)}
            names = (*QUALITY, *(distance.perceptual for distance in self.distances))
            columns |= {name: restored[name] for name in names}
            columns |= {f"identity_{name}": identity[name] for name in names}
            if "top1" in images:
                columns |= {"top1": restored["top1"], "identity_top1": identity["top1"], "clean_top1": images["top1"]}
            values = [_plain(column.tolist()) for column in columns.values()]
            rows += [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
        return rows

    def examples(self) -> dict[str, Tensor]:
        """Title -> (N, 3, H, W) on the CPU: the first images, the columns of grid.png."""
        return {title: torch.cat(images) for title, images in self._examples.items()}

    def seen(self) -> Seen | None:
        """What the classifier sees in the examples; None, with a warning, if it cannot be shown."""
        if not isinstance(self.classifier, Classifier):  # none, or several as one
            return None
        examples = self.examples()
        try:
            found = class_maps(self.classifier, torch.cat(list(examples.values())))
        except UserError as error:
            log.warning("no picture of what the classifier sees: %s", error)
            return None
        parts = zip(*(part.split(len(self._labels)) for part in found), strict=True)
        maps = {title: ClassMaps(*part) for title, part in zip(examples, parts, strict=True)}
        return Seen(maps, self._labels, self.classifier.classes)
