"""One restorer, judged on one set of images: what `evaluate` writes and `train` ends with."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.keyed import fold
from restoration.metrics.bootstrap import Bootstrap
from restoration.metrics.classical import biharmonic_fill, diffusion_fill, mean_fill
from restoration.metrics.frechet import FrechetDistance, GroupedStatistics
from restoration.metrics.image import gradient_energy
from restoration.metrics.judged import Judged
from restoration.metrics.samples import differ, over_samples, solver_error
from restoration.metrics.summary import (
    Columns,
    group_table,
    kind_groups,
    plain,
    severity_groups,
    stack_columns,
)
from restoration.sampler import Euler, Sampler

__all__ = ["Evaluation", "EvaluationResult", "Restores"]

CLASSICAL = {"mean_fill": mean_fill, "biharmonic": biharmonic_fill, "diffusion": diffusion_fill}
PICTURES = 8
"""How many images the grid shows."""


class Restores(Protocol):
    """What an evaluation asks of a restorer."""

    sampler: Any

    def restore(
        self, degraded: Tensor, keys: Tensor, nfe: int | None = None, sampler: Sampler | None = None
    ) -> Tensor: ...


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

    Every mean comes with a 95 % interval under its name + `_ci`: a bootstrap over images, for the Fréchet distance a
    jackknife over groups of them. The sampling noise of an image is keyed by (seed, "sampling", sample number, image
    index), so it depends on neither the batch size nor the other images.

    Args:
        images: how many images to evaluate, from the start of the batches; None takes all.
        nfe: numbers of passes through the flow network, or one number. The report's `restored` is the first, so put
            the best in PSNR there: that is 1, which has no sample's noise.
        samples: results for each image, from different noise. Figures are means over them, the Fréchet distance too;
            a list under its name + `_samples` has them apart. One is enough where there is no noise.
        spread_samples: how many samples of one image the sample spread, and the mean of samples, are taken over;
            below 2 leaves them out.
        spread_images: on how many images, from the start.
        reference: Euler steps to whose result the same noise's is compared, on the same images; None leaves it out.
        seed: of the sampling noise and of the bootstrap.
        frechet: adds its distance to the clean images, under its name; None leaves it out.
        bins: number of equal severity intervals of `by_severity`.
        dtype: in which the network multiplies; None is float32. The figures are float32 always. On a trained network
            bfloat16 moved no mean by more than 0.005 dB.

    Raises:
        ValueError: no NFE, one below 1 or one twice; no image or sample asked for, or no image in the batches.
    """

    def __init__(
        self,
        images: int | None = 1000,
        nfe: Sequence[int] | int = (1, 8),
        samples: int = 1,
        spread_samples: int = 8,
        spread_images: int = 64,
        reference: int | None = None,
        seed: int = 0,
        frechet: FrechetDistance | None = None,
        bins: int = 4,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.nfe = [nfe] if isinstance(nfe, int) else list(nfe)
        whole = all(isinstance(steps, int) and steps >= 1 for steps in self.nfe)
        if not self.nfe or not whole or len(set(self.nfe)) < len(self.nfe):
            raise ValueError(f"evaluation.nfe is {nfe}; give different whole numbers from 1 up, such as [1,8]")
        if images is not None and images < 1:
            raise ValueError(f"evaluation.images is {images}; give a number from 1 up, or null for all")
        if samples < 1:
            raise ValueError(f"evaluation.samples is {samples}; give a number from 1 up")
        if bins < 1:
            raise ValueError(f"evaluation.bins is {bins}; give the number of severity intervals, such as 4")
        self.images, self.samples, self.seed, self.bins = images, samples, seed, bins
        self.spread_samples, self.spread_images = spread_samples, spread_images
        self.reference = reference
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
        judged = {method: Judged() for method in ("identity", *CLASSICAL, *self.nfe)}
        clean_features = GroupedStatistics()
        facts: list[dict[str, Tensor]] = []
        kinds: list[str] = []
        pictures: dict[str, list[Tensor]] = {}
        clocks = {nfe: _Clock() for nfe in self.nfe}
        noisy: dict[int, bool] = {}

        seen = 0
        for batch in self._first_images(batches):
            # Restore, then measure; the baselines know the mask, the restorer does not.
            outputs: dict[Any, list[Tensor]] = {"identity": [batch.degraded]}
            holes = bool(batch.mask.any())
            for name, fill in CLASSICAL.items():
                outputs[name] = [fill(batch.degraded, batch.mask) if holes else batch.degraded]
            for nfe in self.nfe:
                with clocks[nfe].running(batch):
                    first = self._restore(restorer, batch, 0, nfe)
                if not first.isfinite().all():
                    raise FloatingPointError(f"the restorer gave NaN or infinity at {nfe} NFE: its weights are broken")
                if not seen:
                    several, few = max(self.samples, self.spread_samples) > 1, batch.first(PICTURES)
                    noisy[nfe] = several and differ(first[:PICTURES], self._restore(restorer, few, 1, nfe))
                further = range(1, self.samples if noisy[nfe] else 1)
                outputs[nfe] = [first, *(self._restore(restorer, batch, sample, nfe) for sample in further)]
            for method, images in outputs.items():
                judged[method].add(images, batch, self.frechet if method not in CLASSICAL else None)
            for nfe in self.nfe:
                near = batch.first(max(0, self.spread_images - seen))
                judged[nfe].add_closer_look(self._closer_look(restorer, near, outputs[nfe], nfe, noisy[nfe]))
            if self.frechet is not None:
                clean_features.update(self.frechet.features(batch.clean), batch.index)

            facts.append({
                "index": batch.index,
                "severity": batch.severity,
                "hole": batch.mask.float().mean(dim=(1, 2, 3)),
                "texture_clean": gradient_energy(batch.clean, batch.mask),
            })  # fmt: skip
            kinds += batch.kind or []
            if seen < PICTURES:
                columns = {"degraded": batch.degraded, **{f"NFE {n}": outputs[n][0] for n in self.nfe}}
                for title, column in {**columns, "clean": batch.clean}.items():
                    pictures.setdefault(title, []).append(column[: PICTURES - seen].float().cpu())
            seen += len(batch)
        if not seen:
            raise ValueError("there are no images to evaluate: the batches are empty")

        fact = stack_columns(facts)
        bootstrap = Bootstrap(seen, seed=self.seed)
        tables = {method: part.table(bootstrap, fact["texture_clean"]) for method, part in judged.items()}
        if self.frechet is not None and seen > 1:
            for method in ("identity", *self.nfe):
                tables[method] |= judged[method].frechet_table(self.frechet.name, clean_features)

        solver = type(restorer.sampler).__name__
        by_nfe = [
            {"nfe": nfe, "solver": solver, **tables[nfe], "images_per_second": clocks[nfe].images_per_second}
            for nfe in self.nfe
        ]
        figures = {method: part.columns() for method, part in judged.items()}
        restored = {nfe: figures[nfe] for nfe in self.nfe}
        groups = (bootstrap, figures["identity"], restored)
        report = {
            "n": seen,
            "seed": self.seed,
            "identity": tables["identity"],
            "classical": {name: tables[name] for name in CLASSICAL} if fact["hole"].any() else {},
            "restored": by_nfe[0],
            "by_nfe": by_nfe,
            "by_severity": group_table(severity_groups(fact["severity"], self.bins), *groups),
            "by_kind": group_table(kind_groups(kinds), *groups),
            "seconds": time.perf_counter() - began,
            "images_per_second": by_nfe[0]["images_per_second"],
        }
        shown = {title: torch.cat(images) for title, images in pictures.items()}
        return EvaluationResult(plain(report), self._rows(fact, figures), shown)

    def _restore(
        self, restorer: Restores, batch: Batch, sample: int, nfe: int, sampler: Sampler | None = None
    ) -> Tensor:
        keys = fold(self.seed, "sampling", sample, batch.index)
        options = {} if sampler is None else {"sampler": sampler}
        with torch.autocast(batch.degraded.device.type, self.dtype, enabled=self.dtype is not None):
            return restorer.restore(batch.degraded, keys, nfe, **options).float()

    def _first_images(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches, the last one cut so that `images` come in all."""
        left = self.images
        for batch in batches:
            if left is not None:
                batch = batch.first(left)
                left -= len(batch)
            yield batch
            if left == 0:
                return

    def _closer_look(
        self, restorer: Restores, batch: Batch, samples: list[Tensor], nfe: int, noisy: bool
    ) -> dict[str, Tensor]:
        """Further figures (B,) of the batch, the samples of which may hold more images."""
        figures: dict[str, Tensor] = {}
        if self.spread_samples > 1 and len(batch):
            near = [sample[: len(batch)] for sample in samples[: self.spread_samples]]
            # Without noise all further samples are the first one again.
            for sample in range(len(near), self.spread_samples if noisy else 1):
                near.append(self._restore(restorer, batch, sample, nfe))
            figures |= over_samples(near if noisy else 2 * near, batch)
        if self.reference is not None and len(batch):
            reference = self._restore(restorer, batch, 0, self.reference, Euler(keep=restorer.sampler.keep))
            figures |= solver_error(samples[0][: len(batch)], reference)
        return figures

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
