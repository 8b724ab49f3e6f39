"""The results of all methods in an evaluation, and the report on them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.metrics.frechet import FrechetDistance, GroupedStatistics
from restoration.metrics.image import gradient_energy
from restoration.metrics.method_results import MethodResults
from restoration.metrics.samples import SampledRestorer
from restoration.metrics.summary import QUALITY, group_table, kind_groups, plain, severity_groups, stack_columns

__all__ = ["Collector"]

EXAMPLES = 8  # images in grid.png


class Collector:
    """Measures the outputs of all methods batch by batch.

    Args:
        nfe: the NFE of the restored images; each is one method.
        baselines: names of the methods that fill the hole. They have no Fréchet distance.
        frechet: None leaves the distance out.
    """

    def __init__(self, nfe: list[int], baselines: list[str], frechet: FrechetDistance | None) -> None:
        self.nfe, self.baselines, self.frechet = nfe, baselines, frechet
        self.n = 0
        self.methods: dict[Any, MethodResults] = {name: MethodResults() for name in ("identity", *baselines, *nfe)}
        self._clean_features = GroupedStatistics()
        self._images: list[dict[str, Tensor]] = []
        self._kinds: list[str] = []
        self._examples: dict[str, list[Tensor]] = {}

    def add(self, batch: Batch, outputs: dict[Any, list[Tensor]]) -> None:
        """Adds a batch and the outputs for it: method -> samples (B, 3, H, W)."""
        for method, samples in outputs.items():
            self.methods[method].add(samples, batch, None if method in self.baselines else self.frechet)
        if self.frechet is not None:
            self._clean_features.update(self.frechet.features(batch.clean), batch.index)
        self._images.append({
            "index": batch.index,
            "severity": batch.severity,
            "hole": batch.mask.float().mean(dim=(1, 2, 3)),
            "texture_clean": gradient_energy(batch.clean, batch.mask),
        })  # fmt: skip
        self._kinds += batch.kind or []
        if self.n < EXAMPLES:
            restored = {f"NFE {nfe}": outputs[nfe][0] for nfe in self.nfe}
            for title, images in {"degraded": batch.degraded, **restored, "clean": batch.clean}.items():
                self._examples.setdefault(title, []).append(images[: EXAMPLES - self.n].float().cpu())
        self.n += len(batch)

    def report(self, source: SampledRestorer) -> dict[str, Any]:
        """The content of metrics.json, except for the time of the whole evaluation.

        The seed of `source`, which made the restored images, is also that of the bootstrap.
        """
        seed, solver = source.seed, type(source.restorer.sampler).__name__
        images = stack_columns(self._images)
        tables = {method: results.table(images["texture_clean"], seed) for method, results in self.methods.items()}
        if self.frechet is not None and self.n > 1:
            for method in ("identity", *self.nfe):
                tables[method] |= self.methods[method].frechet_table(self.frechet.name, self._clean_features)
        by_nfe = [
            {"nfe": nfe, "solver": solver, **tables[nfe], "images_per_second": source.images_per_second(nfe)}
            for nfe in self.nfe
        ]
        identity = self.methods["identity"].columns()
        restored = {nfe: self.methods[nfe].columns() for nfe in self.nfe}
        return plain({
            "n": self.n,
            "seed": seed,
            "identity": tables["identity"],
            "classical": {name: tables[name] for name in self.baselines} if images["hole"].any() else {},
            "restored": by_nfe[0],
            "by_nfe": by_nfe,
            "by_severity": group_table(severity_groups(images["severity"]), identity, restored, seed),
            "by_kind": group_table(kind_groups(self._kinds), identity, restored, seed),
        })  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """The content of per_image.csv: one row per image and NFE. `hole` is the share of erased pixels."""
        images = stack_columns(self._images)
        identity = self.methods["identity"].columns()
        rows = []
        for nfe in self.nfe:
            restored = self.methods[nfe].columns()
            columns = {name: images[name] for name in ("index", "severity", "hole")}
            columns["nfe"] = np.full(self.n, nfe)
            columns |= {name: restored[name] for name in QUALITY}
            columns |= {f"identity_{name}": identity[name] for name in QUALITY}
            values = [plain(column.tolist()) for column in columns.values()]
            rows += [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
        return rows

    def examples(self) -> dict[str, Tensor]:
        """Title -> (N, 3, H, W) on the CPU: the first images, the columns of grid.png."""
        return {title: torch.cat(images) for title, images in self._examples.items()}
