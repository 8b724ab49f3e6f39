"""The results of one method in an evaluation."""

from typing import Any

import numpy as np
from torch import Tensor

from restoration.batch import Batch
from restoration.metrics.bootstrap import bootstrap_mean, jackknife
from restoration.metrics.frechet import FrechetDistance, GroupedStatistics, frechet_distance, frechet_left_out
from restoration.metrics.image import measure
from restoration.metrics.summary import QUALITY, Columns, stack_columns, summary

__all__ = ["MethodResults"]


class MethodResults:
    """Metrics of every image and sample, and their features if there is a Fréchet distance."""

    def __init__(self) -> None:
        self._samples: list[list[dict[str, Tensor]]] = []
        self._features: list[GroupedStatistics] = []
        self._first_images: list[dict[str, Tensor]] = []

    def add(self, samples: list[Tensor], batch: Batch, frechet: FrechetDistance | None) -> None:
        """Measures the outputs (B, 3, H, W) for a batch, the same number of samples for every batch."""
        for number, images in enumerate(samples):
            if number == len(self._samples):
                self._samples.append([])
                self._features.append(GroupedStatistics())
            self._samples[number].append(measure(images, batch.clean, batch.mask))
            if frechet is not None:
                self._features[number].update(frechet.features(images), batch.index)

    def add_first_images(self, metrics: dict[str, Tensor]) -> None:
        """Adds metrics that are measured on the first images only."""
        if metrics:
            self._first_images.append(metrics)

    def columns(self) -> Columns:
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
        distances = [frechet_distance(sample.joined(), whole) for sample in self._features]
        table: dict[str, Any] = {name: float(np.mean(distances))}
        left_out = frechet_left_out(self._features, clean)
        if left_out is not None:
            table |= {f"{name}_ci": list(jackknife(table[name], left_out)), f"{name}_left_out": left_out}
        if len(distances) > 1:
            table[f"{name}_samples"] = distances
        return table
