"""What an evaluation gathers of one method."""

from typing import Any

import numpy as np
from torch import Tensor

from restoration.batch import Batch
from restoration.metrics.bootstrap import Bootstrap, jackknife
from restoration.metrics.frechet import FrechetDistance, GroupedStatistics, frechet_distance, frechet_left_out
from restoration.metrics.image import measure
from restoration.metrics.summary import Columns, stack_columns, summary

__all__ = ["Judged"]


class Judged:
    """Figures of every image and sample, and features where there is a Fréchet distance."""

    def __init__(self) -> None:
        self._samples: list[list[dict[str, Tensor]]] = []
        self._features: list[GroupedStatistics] = []
        self._closer: list[dict[str, Tensor]] = []

    def add(self, samples: list[Tensor], batch: Batch, frechet: FrechetDistance | None) -> None:
        """The results (B, 3, H, W) of a batch, as many in every batch."""
        for number, images in enumerate(samples):
            if number == len(self._samples):
                self._samples.append([])
                self._features.append(GroupedStatistics())
            self._samples[number].append(measure(images, batch.clean, batch.mask))
            if frechet is not None:
                self._features[number].update(frechet.features(images), batch.index)

    def add_closer_look(self, figures: dict[str, Tensor]) -> None:
        """Further figures, of the first images only."""
        if figures:
            self._closer.append(figures)

    def columns(self) -> Columns:
        """Per image, the mean over its samples; NaN where an image has no such figure."""
        samples = [stack_columns(batches) for batches in self._samples]
        columns = {name: np.mean([sample[name] for sample in samples], axis=0) for name in samples[0]}
        for name, values in stack_columns(self._closer).items():
            columns[name] = np.pad(values, (0, len(columns["psnr"]) - len(values)), constant_values=np.nan)
        return columns

    def table(self, bootstrap: Bootstrap, texture_clean: np.ndarray) -> dict[str, Any]:
        """Means with intervals, and those of each sample apart."""
        table = summary(bootstrap, self.columns(), texture_clean)
        if len(self._samples) > 1:
            for name in ("psnr", "ssim", "psnr_hole", "psnr_known"):
                columns = (stack_columns(batches)[name] for batches in self._samples)
                table[f"{name}_samples"] = [bootstrap.mean(column)[0] for column in columns]
        return table

    def frechet_table(self, name: str, clean: GroupedStatistics) -> dict[str, Any]:
        """The distance to the clean images with its interval, what it is without each group of images, from which a
        difference to another run has one, and that of each sample apart."""
        whole = clean.joined()
        distances = [frechet_distance(sample.joined(), whole) for sample in self._features]
        table: dict[str, Any] = {name: float(np.mean(distances))}
        left_out = frechet_left_out(self._features, clean)
        if left_out is not None:
            table |= {f"{name}_ci": list(jackknife(table[name], left_out)), f"{name}_left_out": left_out}
        if len(distances) > 1:
            table[f"{name}_samples"] = distances
        return table
