"""A closer look at sampling: several results for one image, and the solver's own error."""

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.metrics.image import psnr

__all__ = ["differ", "over_samples", "solver_error"]


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether two results are further apart anywhere than rounding makes them: half a grey level."""
    return bool((one - other).abs().max() > 0.5 / 255)


def over_samples(samples: list[Tensor], batch: Batch) -> dict[str, Tensor]:
    """What the samples (B, 3, H, W) of each image say together, each figure float32 (B,).

    `spread_hole`, `spread_known`: their standard deviation, mean over the pixels of the hole and of the rest (NaN
    without such pixels). `psnr_average`: PSNR of their mean, which tends to the posterior mean, in dB; `psnr_single`:
    that of the first of them, to compare it with.
    """
    stacked = torch.stack(samples).float().clamp(0.0, 1.0)
    figures = {"psnr_average": psnr(stacked.mean(dim=0), batch.clean), "psnr_single": psnr(stacked[0], batch.clean)}
    deviation = stacked.std(dim=0).mean(dim=1, keepdim=True)
    for name, region in (("spread_hole", batch.mask), ("spread_known", ~batch.mask)):
        figures[name] = (deviation * region).sum(dim=(1, 2, 3)) / region.sum(dim=(1, 2, 3))
    return figures


def solver_error(restored: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """`rmse_reference`, float32 (B,): root mean square distance in [0, 1] to what many evaluations make of the same
    noise. It tells a solver's error from the network's."""
    difference = restored.float().clamp(0.0, 1.0) - reference.float().clamp(0.0, 1.0)
    return {"rmse_reference": difference.square().mean(dim=(1, 2, 3)).sqrt()}
