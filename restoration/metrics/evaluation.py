"""The evaluation of one restorer on one set of images, as `evaluate` and the end of `train` run it."""

import logging
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.classifier import Classifier, Ensemble
from restoration.errors import NFE, Count, Range, UserError, whole_number
from restoration.metrics.classical import biharmonic_fill, diffusion_fill, mean_fill
from restoration.metrics.collector import Collector, Seen
from restoration.metrics.frechet import FrechetDistance, classifier_distance
from restoration.metrics.samples import SampledRestorer, sample_metrics, solver_error
from restoration.restorer import Restorer
from restoration.sampler import Euler

log = logging.getLogger(__name__)

CLASSICAL = {"mean_fill": mean_fill, "biharmonic": biharmonic_fill, "diffusion": diffusion_fill}


@dataclass
class EvaluationResult:
    """The result of an evaluation, as `Collector` makes it."""

    report: dict[str, Any]  # content of metrics.json; None for a metric that does not exist
    rows: list[dict[str, Any]]  # content of per_image.csv
    examples: dict[str, Tensor]  # columns of grid.png
    seen: Seen | None = None  # in them, by the classifier


class Evaluation:
    """Restores images at each NFE and compares them with the clean images, as docs/protocol.md defines.

    Every mean has a 95 % interval under its name + `_ci`: a bootstrap over images, and for the Fréchet distance a
    jackknife over groups of images.

    Args:
        images: how many images to evaluate, from the start of the batches; None takes all.
        nfe: numbers of network evaluations per image, or one number. The report's `restored` is the first, so put
            the best in PSNR there: that is 1, which has no sampling noise.
        samples: results for each image, from different noise. Metrics are means over them; a list under the name +
            `_samples` has them apart. One is used where the noise changes nothing.
        spread_samples: number of samples for the sample spread and for the mean of samples; below 2 leaves them out.
        spread_images: on how many images, from the start.
        reference: number of Euler steps of a reference result from the same noise, to which the first `spread_images`
            are compared; None leaves it out.
        masks: the restorer is given each image's mask, as by a user who marks the hole; otherwise it is blind.
        seed: of the sampling noise and of the bootstrap.
        frechet: adds its Fréchet and perceptual distance to the clean images, under their names; None leaves them out.
        classifier: adds the share of clean, degraded and restored images that it knows, `top1`, and the distances over
            its features; None leaves them out.
        dtype: of the network's multiplications; None is float32, as all metrics are. On a trained network bfloat16
            changed no mean by more than 0.005 dB.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        images: Count | None = 1000,
        nfe: Sequence[NFE] | NFE = (1, 8),
        samples: Annotated[int, Range(1, 1000)] = 1,
        spread_samples: Annotated[int, Range(0, 1000)] = 8,
        spread_images: Annotated[int, Range(0)] = 64,
        reference: NFE | None = None,
        masks: bool = False,
        seed: int = 0,
        frechet: FrechetDistance | None = None,
        classifier: Classifier | Ensemble | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.nfe = [nfe] if isinstance(nfe, int) else list(nfe)
        whole = all(isinstance(steps, int) and steps >= 1 for steps in self.nfe)
        if not self.nfe or not whole or len(set(self.nfe)) < len(self.nfe):
            raise UserError(f"evaluation.nfe is {nfe}; give different whole numbers from 1 up, such as [1,8]")
        self.images = None if images is None else whole_number("evaluation.images", images, 1)
        self.samples = whole_number("evaluation.samples", samples, 1)
        self.spread_samples = whole_number("evaluation.spread_samples", spread_samples, 0)
        self.spread_images = whole_number("evaluation.spread_images", spread_images, 0)
        self.reference = None if reference is None else whole_number("evaluation.reference", reference, 1)
        self.masks, self.seed, self.classifier, self.dtype = masks, seed, classifier, dtype
        self.distances = [] if frechet is None else [frechet]
        if isinstance(classifier, Classifier):
            self._add_distance(classifier)

    def _add_distance(self, classifier: Classifier) -> None:
        """The distances over the classifier, unless it is the encoder of `frechet`."""
        try:
            distance = classifier_distance(classifier)
        except UserError as error:
            log.warning("no distances over the classifier: %s", error)
            return
        if distance.name not in {known.name for known in self.distances}:
            self.distances.append(distance)

    @torch.no_grad()
    def __call__(self, restorer: Restorer, batches: Iterable[Batch]) -> EvaluationResult:
        """Evaluates one restorer.

        Args:
            restorer: in eval mode, on the device of the batches.
            batches: read until there are enough images.

        Raises:
            UserError: a restored image is not finite, or there are no images.
        """
        start = time.perf_counter()
        source = SampledRestorer(restorer, self.seed, self.dtype, self.masks)
        collector = Collector(self.nfe, list(CLASSICAL), self.distances, self.classifier)

        # Restore and measure.
        for batch in self._first_images(batches):
            first = batch.first(max(0, self.spread_images - collector.n))
            samples = {nfe: self._samples(source, batch, nfe) for nfe in self.nfe}
            classical = {name: [fill(batch.degraded, batch.mask)] for name, fill in CLASSICAL.items()}
            collector.add(batch, {"identity": [batch.degraded], **classical, **samples})
            for nfe in self.nfe if len(first) else ():
                collector.methods[nfe].add_first_images(self._sampling(source, first, samples[nfe], nfe))
        if not collector.n:
            raise UserError("there are no images to evaluate: the data set is empty")

        # Summarise.
        report = collector.report(source)
        report["seconds"] = time.perf_counter() - start
        report["images_per_second"] = report["restored"]["images_per_second"]
        return EvaluationResult(report, collector.rows(), collector.examples(), collector.seen())

    def _first_images(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches up to `images` images; the last one is cut."""
        left = self.images or sys.maxsize
        for batch in batches:
            yield batch.first(left)
            left -= len(batch)
            if left <= 0:
                return

    def _samples(self, source: SampledRestorer, batch: Batch, nfe: int) -> list[Tensor]:
        first = source.timed_restore(batch, nfe)
        if not first.isfinite().all():
            raise UserError(f"the restorer returned NaN or infinity at {nfe} NFE: its weights are broken; train again")
        several = self.samples > 1 and source.is_random(batch, nfe, first)
        return [first, *(source.restore(batch, nfe, sample) for sample in range(1, self.samples if several else 1))]

    def _sampling(self, source: SampledRestorer, batch: Batch, samples: list[Tensor], nfe: int) -> dict[str, Tensor]:
        """Sample spread and solver error of the batch, each (B,); the samples may hold more images than the batch."""
        metrics: dict[str, Tensor] = {}
        near = [sample[: len(batch)] for sample in samples]
        if self.spread_samples > 1:
            several = near[: self.spread_samples]
            if source.is_random(batch, nfe, near[0]):
                several += [source.restore(batch, nfe, sample) for sample in range(len(several), self.spread_samples)]
            else:
                several = 2 * several
            metrics |= sample_metrics(several, batch)
        if self.reference is not None:
            reference = source.restore(batch, self.reference, sampler=Euler(keep=source.restorer.sampler.keep))
            metrics |= solver_error(near[0], reference)
        return metrics
