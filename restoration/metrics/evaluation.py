"""One restorer, judged on one set of images: what `evaluate` writes and `train` ends with."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.keyed import fold
from restoration.metrics.bootstrap import Bootstrap
from restoration.metrics.classical import biharmonic_fill, diffusion_fill, mean_fill
from restoration.metrics.frechet import FeatureStatistics, FrechetDistance, frechet_distance
from restoration.metrics.image import gradient_energy, measure
from restoration.metrics.summary import Columns, plain, severity_table, stack_columns, summary

__all__ = ["Evaluation", "EvaluationResult", "Restores"]

CLASSICAL = {"mean_fill": mean_fill, "biharmonic": biharmonic_fill, "diffusion": diffusion_fill}
PICTURES = 8
"""How many images the grid shows."""


class Restores(Protocol):
    """What an evaluation asks of a restorer."""

    sampler: Any

    def restore(self, degraded: Tensor, keys: Tensor, nfe: int | None = None) -> Tensor: ...


@dataclass
class EvaluationResult:
    """What came of an evaluation.

    Attributes:
        report: plain dicts, lists, numbers and None (for "no such figure"): the content of metrics.json.
        rows: one dict per image and NFE: the content of per_image.csv. `hole` is the share of erased pixels.
        pictures: column title -> (N, 3, H, W) on the CPU, the first images: the columns of grid.png.
    """

    report: dict[str, Any]
    rows: list[dict[str, Any]]
    pictures: dict[str, Tensor]


class Evaluation:
    """Restores images at each NFE and compares with the clean ones, as protocol.md lays down.

    Every mean comes with a 95 % bootstrap interval over images under its name + `_ci`; the Fréchet distance has
    none. The sampling noise of an image is keyed by (seed, "sampling", sample number, image index), so it depends
    on neither the batch size nor the other images.

    Args:
        images: how many images to evaluate, from the start of the batches; None takes all.
        nfe: numbers of passes through the flow network. The report's `restored` is the first, so put the best in
            PSNR there: with a noisy source that is 1, the posterior mean.
        spread_samples: how many samples of one image the sample spread is taken over; below 2 leaves it out.
        spread_images: on how many images, from the start.
        seed: of the sampling noise and of the bootstrap.
        frechet: adds its distance to the clean images, under its name; None leaves it out.
        bins: number of equal severity intervals of `by_severity`.
        dtype: in which the network multiplies; None is float32. The figures are float32 always. On a trained network
            bfloat16 moved no mean by more than 0.005 dB.

    Raises:
        ValueError: no NFE, one below 1 or one twice; no image asked for, or none in the batches.
    """

    def __init__(
        self,
        images: int | None = 1000,
        nfe: Sequence[int] = (1, 8),
        spread_samples: int = 8,
        spread_images: int = 64,
        seed: int = 0,
        frechet: FrechetDistance | None = None,
        bins: int = 4,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.nfe = [int(steps) for steps in nfe]
        if not self.nfe or min(self.nfe) < 1 or len(set(self.nfe)) < len(self.nfe):
            raise ValueError(f"evaluation.nfe is {list(nfe)}; give different whole numbers from 1 up, such as [1,8]")
        if images is not None and images < 1:
            raise ValueError(f"evaluation.images is {images}; give a number from 1 up, or null for all")
        if bins < 1:
            raise ValueError(f"evaluation.bins is {bins}; give the number of severity intervals, such as 4")
        self.images, self.seed, self.bins = images, seed, bins
        self.spread_samples, self.spread_images = spread_samples, spread_images
        self.frechet = frechet
        self.dtype = dtype

    @torch.no_grad()
    def __call__(self, restorer: Restores, batches: Iterable[Batch]) -> EvaluationResult:
        """Evaluates one restorer.

        Args:
            restorer: in eval mode, on the device of the batches.
            batches: read until enough images have come.

        Raises:
            FloatingPointError: a restored image is not finite.
        """
        began = time.perf_counter()
        methods = ["identity", *CLASSICAL, *self.nfe]
        parts: dict[Any, list[dict[str, Tensor]]] = {method: [] for method in methods}
        facts: list[dict[str, Tensor]] = []
        features: dict[Any, FeatureStatistics] = {key: FeatureStatistics() for key in ("clean", "identity", *self.nfe)}
        pictures: dict[str, list[Tensor]] = {}
        clocks = {nfe: _Clock() for nfe in self.nfe}

        seen = 0
        for batch in self._first_images(batches):
            # Restore, then measure; the baselines know the mask, the restorer does not.
            outputs: dict[Any, Tensor] = {"identity": batch.degraded}
            if batch.mask.any():
                outputs |= {name: fill(batch.degraded, batch.mask) for name, fill in CLASSICAL.items()}
            for nfe in self.nfe:
                with clocks[nfe].running(batch):
                    outputs[nfe] = self._restore(restorer, batch.degraded, batch.index, 0, nfe)
                if not outputs[nfe].isfinite().all():
                    raise FloatingPointError(f"the restorer gave NaN or infinity at {nfe} NFE: its weights are broken")
            for method in methods:
                parts[method].append(measure(outputs.get(method, batch.degraded), batch.clean, batch.mask))
            for nfe in self.nfe:
                if self.spread_samples > 1:
                    parts[nfe][-1] |= self._spread(restorer, batch, outputs[nfe], nfe, seen)
            if self.frechet is not None:
                for key, statistics in features.items():
                    statistics.update(self.frechet.features(batch.clean if key == "clean" else outputs[key]))

            facts.append({
                "index": batch.index,
                "severity": batch.severity,
                "hole": batch.mask.float().mean(dim=(1, 2, 3)),
                "texture_clean": gradient_energy(batch.clean, batch.mask),
            })  # fmt: skip
            if seen < PICTURES:
                shown = {"degraded": batch.degraded, **{f"NFE {n}": outputs[n] for n in self.nfe}, "clean": batch.clean}
                for title, images in shown.items():
                    pictures.setdefault(title, []).append(images[: PICTURES - seen].float().cpu())
            seen += len(batch)
        if not seen:
            raise ValueError("there are no images to evaluate: the batches are empty")

        fact = stack_columns(facts)
        figures = {method: stack_columns(part) for method, part in parts.items()}
        bootstrap = Bootstrap(seen, seed=self.seed)
        tables = {method: summary(bootstrap, columns, fact["texture_clean"]) for method, columns in figures.items()}
        if self.frechet is not None:
            for key in ("identity", *self.nfe):
                distance = frechet_distance(features[key], features["clean"]) if seen > 1 else None
                tables[key][self.frechet.name] = distance

        solver = type(restorer.sampler).__name__
        by_nfe = [
            {"nfe": nfe, "solver": solver, **tables[nfe], "images_per_second": clocks[nfe].images_per_second}
            for nfe in self.nfe
        ]
        restored = {nfe: figures[nfe] for nfe in self.nfe}
        report = {
            "n": seen,
            "seed": self.seed,
            "identity": tables["identity"],
            "classical": {name: tables[name] for name in CLASSICAL} if fact["hole"].any() else {},
            "restored": by_nfe[0],
            "by_nfe": by_nfe,
            "by_severity": severity_table(bootstrap, fact["severity"], figures["identity"], restored, self.bins),
            "seconds": time.perf_counter() - began,
            "images_per_second": by_nfe[0]["images_per_second"],
        }
        shown = {title: torch.cat(images) for title, images in pictures.items()}
        return EvaluationResult(plain(report), self._rows(fact, figures), shown)

    def _restore(self, restorer: Restores, degraded: Tensor, index: Tensor, sample: int, nfe: int) -> Tensor:
        keys = fold(self.seed, "sampling", sample, index)
        with torch.autocast(degraded.device.type, self.dtype, enabled=self.dtype is not None):
            return restorer.restore(degraded, keys, nfe).float()

    def _first_images(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches, the last one cut so that `images` come in all."""
        left = self.images
        for batch in batches:
            if left is not None:
                if len(batch) > left:
                    cut: dict[str, Any] = {}
                    for field in fields(batch):
                        value = getattr(batch, field.name)
                        cut[field.name] = None if value is None else value[:left]
                    batch = Batch(**cut)
                left -= len(batch)
            yield batch
            if left == 0:
                return

    def _spread(self, restorer: Restores, batch: Batch, first: Tensor, nfe: int, seen: int) -> dict[str, Tensor]:
        """Standard deviation over samples of one image, mean over the pixels of the hole and of the rest: (B,), NaN
        for images beyond the first `spread_images`."""
        chosen = slice(0, max(0, self.spread_images - seen))
        degraded, index, mask = batch.degraded[chosen], batch.index[chosen], batch.mask[chosen]
        spread = {name: torch.full_like(batch.severity, torch.nan) for name in ("spread_hole", "spread_known")}
        if len(index) == 0:
            return spread
        samples = [first[chosen].clamp(0.0, 1.0)]
        for sample in range(1, self.spread_samples):
            samples.append(self._restore(restorer, degraded, index, sample, nfe).clamp(0.0, 1.0))
            if sample == 1 and torch.equal(samples[0], samples[1]):
                break  # no noise in this restorer: all further samples are this one again
        deviation = torch.stack(samples).float().std(dim=0).mean(dim=1, keepdim=True)
        for values, region in zip(spread.values(), (mask, ~mask), strict=True):
            values[chosen] = (deviation * region).sum(dim=(1, 2, 3)) / region.sum(dim=(1, 2, 3))
        return spread

    def _rows(self, facts: Columns, figures: dict[Any, Columns]) -> list[dict[str, Any]]:
        """One row per image and NFE."""
        rows = []
        names = ("psnr", "ssim", "psnr_hole", "psnr_known")
        for nfe in self.nfe:
            columns = {name: facts[name] for name in ("index", "severity", "hole")}
            columns["nfe"] = np.full(len(facts["index"]), nfe)
            columns |= {name: figures[nfe][name] for name in names}
            columns |= {f"identity_{name}": figures["identity"][name] for name in names}
            values = [plain(column.tolist()) for column in columns.values()]
            rows += [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
        return rows


class _Clock:
    """Restoring speed, without the first batch where there are more: it pays for compiling and warming up."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, float]] = []

    @contextmanager
    def running(self, batch: Batch) -> Iterator[None]:
        self._wait(batch)
        began = time.perf_counter()
        yield
        self._wait(batch)
        self._runs.append((len(batch), time.perf_counter() - began))

    @staticmethod
    def _wait(batch: Batch) -> None:
        if batch.clean.is_cuda:
            torch.cuda.synchronize(batch.clean.device)

    @property
    def images_per_second(self) -> float:
        runs = self._runs[1:] or self._runs
        return sum(images for images, _ in runs) / sum(seconds for _, seconds in runs)
