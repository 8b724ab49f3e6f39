"""Samples of a restorer: several results for one image from different noise, and what they show together."""

import time
from collections import defaultdict
from functools import partial

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.keyed import fold
from restoration.metrics.image import psnr
from restoration.restorer import Restorer
from restoration.sampler import Sampler


class SampledRestorer:
    """A restorer with keyed sampling noise, and its speed.

    The key is (seed, "sampling", sample number, image index), so the noise of an image depends on neither the batch
    size nor the other images.

    Args:
        restorer: in eval mode, on the device of the batches.
        seed: of the sampling noise.
        dtype: of the network's multiplications; None is float32.
        masks: the restorer is given each image's mask.
    """

    def __init__(self, restorer: Restorer, seed: int, dtype: torch.dtype | None, masks: bool = False) -> None:
        self.restorer, self.seed, self.dtype, self.masks = restorer, seed, dtype, masks
        self._is_random: dict[int, bool] = {}
        self._runs: dict[int, list[tuple[int, float]]] = defaultdict(list)

    def restore(self, batch: Batch, nfe: int, sample: int = 0, sampler: Sampler | None = None) -> Tensor:
        """float32 (B, 3, H, W) from the noise of that sample number."""
        keys = fold(self.seed, "sampling", sample, batch.index)
        mask = batch.mask if self.masks else None
        return self.restorer.restore(batch.degraded, keys, nfe, sampler, mask, dtype=self.dtype).images

    def timed_restore(self, batch: Batch, nfe: int) -> Tensor:
        """The first sample; the time it takes counts for `images_per_second`."""
        device = batch.clean.device
        synchronize = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
        synchronize()
        start = time.perf_counter()
        restored = self.restore(batch, nfe)
        synchronize()
        self._runs[nfe].append((len(batch), time.perf_counter() - start))
        return restored

    def images_per_second(self, nfe: int) -> float:
        """Without the first of several batches, which includes compilation and warm-up."""
        runs = self._runs[nfe][1:] or self._runs[nfe]
        return sum(images for images, _ in runs) / sum(seconds for _, seconds in runs)

    def is_random(self, batch: Batch, nfe: int, restored: Tensor) -> bool:
        """Whether another sample differs from the first, `restored`; tested once per NFE, on up to eight images."""
        if nfe not in self._is_random:
            few = batch.first(8)
            distance = (restored[: len(few)] - self.restore(few, nfe, sample=1)).abs().max()
            # Rounding differences are smaller than half a grey level.
            self._is_random[nfe] = bool(distance > 0.5 / 255)
        return self._is_random[nfe]


def sample_metrics(samples: list[Tensor], batch: Batch) -> dict[str, Tensor]:
    """Metrics of several samples (B, 3, H, W) of each image, each float32 (B,).

    `spread_hole`, `spread_known`: standard deviation over the samples, mean over the pixels of the region (NaN if it
    is empty). `psnr_average`: PSNR in dB of the mean of the samples, which tends to the posterior mean.
    `psnr_single`: PSNR of the first sample, for comparison.
    """
    stacked = torch.stack(samples).float().clamp(0.0, 1.0)
    metrics = {"psnr_average": psnr(stacked.mean(dim=0), batch.clean), "psnr_single": psnr(stacked[0], batch.clean)}
    deviation = stacked.std(dim=0).mean(dim=1, keepdim=True)
    for name, region in (("spread_hole", batch.mask), ("spread_known", ~batch.mask)):
        metrics[name] = (deviation * region).sum(dim=(1, 2, 3)) / region.sum(dim=(1, 2, 3))
    return metrics


def solver_error(restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """`rmse_reference`, float32 (B,): root mean square difference in [0, 1] to a reference result from the same noise.

    It measures the error of the solver without that of the network.
    """
    difference = restored.float().clamp(0.0, 1.0) - reference.float().clamp(0.0, 1.0)
    return {"rmse_reference": difference.square().mean(dim=(1, 2, 3)).sqrt()}
