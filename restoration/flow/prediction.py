"""Predictions: what the network sees, and what its output means."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.errors import NotNegative, Share
from restoration.flow.field import ConditionalField
from restoration.flow.path import column, precondition

# Least 1 − t to divide by in sampling: float32 times below 1 are at least 6e-8 away from it.
_LEAST_TIME_LEFT = 1e-7


def local_mean(images: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """The mean around each pixel of pixels with a weight, by a normalised convolution (Knutsson & Westin 1993).

    Args:
        images: (B, C, H, W).
        weight: (B, 1, H, W) in [0, 1].
        sigma: of the Gaussian window, pixels; it ends at 3σ.

    Returns:
        (B, C, H, W), at least float32. It falls to 0 where less than a fiftieth of the window has a weight.
    """
    step = max(1, int(sigma / 4))  # a wide window needs no more than every second pixel, or fourth, …
    radius = math.ceil(3 * sigma / step)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    with torch.autocast(images.device.type, enabled=False):
        sums = torch.cat([images * weight, weight.to(images)], dim=1)
        sums = sums.to(torch.promote_types(sums.dtype, torch.float32))
        if step > 1:
            sums = F.avg_pool2d(sums, step, ceil_mode=True, count_include_pad=False)
        window = torch.softmax(-0.5 * (offsets * step / sigma).to(sums).square(), dim=0)
        for shape, padding in (((1, 1, 1, -1), (0, radius)), ((1, 1, -1, 1), (radius, 0))):
            sums = F.conv2d(
                sums, window.view(shape).expand(sums.shape[1], 1, -1, -1), padding=padding, groups=sums.shape[1]
            )
        mean = sums[:, :-1] / (sums[:, -1:] + 0.02)
        return mean if step == 1 else F.interpolate(mean, size=images.shape[-2:], mode="bilinear")


@dataclass(frozen=True)
class CleanPrediction(ConditionalField):
    """The network predicts the residual of the initial estimate: x̂_1 = initial + residual_std · network.

    Where the residual std is 0 the result is the initial estimate at every t, so sampling leaves intact pixels alone.
    The network sees the preconditioned input (`flow.precondition`), in the same units.

    Attributes:
        floor: least 1 − t by which the error of x̂_1 is divided in training. It weights times, not images, so the
            minimiser does not change; without it the last times, where the error is smallest, dominate the loss.
        keep_mean: σ of a window in pixels. Blur, noise and JPEG keep the local mean of what is known, so that of
            the residual, over the pixels that are surely no hole, is an error and is taken away. Training hardly sees
            it beside the errors at edges; in a photograph it is a colour cast. 0 keeps it.
    """

    floor: Share = 0.3
    keep_mean: NotNegative = 0.0

    def clean(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        """x̂_1; with r, the point at t = 1 of the straight line from x_t through x_r."""
        x_in = precondition(self.innovation(x_t, t), self.estimate.residual_std, t, self.sigma)
        std, output = self.estimate.residual_std, self.output(x_in, x_t, t, r)
        if not self.keep_mean:
            return torch.addcmul(self.estimate.initial, std, output)
        residual = std * output
        cast = local_mean(residual, (self.hole == 0).to(residual), self.keep_mean)
        return self.estimate.initial + residual - cast.where(std > 0, 0.0)

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return (self.clean(x_t, t, r) - x_t) / column(1 - t).clamp(min=_LEAST_TIME_LEFT)

    def time_weight(self, t: Tensor) -> Tensor:
        return (1 - t) / (1 - t).clamp(min=self.floor)

    def training_pair(
        self, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, r: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        time_left = column(1 - t).clamp(min=self.floor)
        return (self.clean(x_t, t, r) - x_t) / time_left, (x_1 - x_t) / time_left


@dataclass(frozen=True)
class VelocityPrediction(ConditionalField):
    """The network predicts the unknown part of the velocity: v = initial − mean + network.

    It sees the innovation of x_t without preconditioning, and has to remove the noise in v itself.
    """

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return self.estimate.initial - self.mean + self.output(self.innovation(x_t, t), x_t, t, r)

    def training_pair(
        self, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, r: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.velocity(x_t, t, r), x_1 - x_0
