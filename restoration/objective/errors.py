"""Distances between two images, per image."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.errors import Positive, Share


class PixelError(ABC):
    """How far two images are apart."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """(B,) from (B, 3, H, W) twice and the hole, bool (B, 1, H, W)."""


class SquaredError(PixelError):
    """The mean over pixels of the squared difference; minimised by the posterior mean."""

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return (prediction - target).square().mean(dim=(1, 2, 3))


class CharbonnierError(PixelError):
    """The mean over pixels of √(Δ² + ε²) − ε: an absolute error that is smooth at 0 (Charbonnier et al. 1994).

    Its minimiser is near the median, sharper than the mean where two answers compete.

    Args:
        epsilon: ε, in the flow's space; smaller differences count as their square.
    """

    def __init__(self, epsilon: Positive = 1e-3) -> None:
        self.epsilon = epsilon

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        square = (prediction - target).square()
        return ((square + self.epsilon**2).sqrt() - self.epsilon).mean(dim=(1, 2, 3))


class HuberError(PixelError):
    """The mean over pixels of ½Δ² below δ, and of δ(|Δ| − ½δ) above (Huber 1964).

    Args:
        delta: δ, in the flow's space.
    """

    def __init__(self, delta: Positive = 0.1) -> None:
        self.delta = delta

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return F.huber_loss(prediction, target, reduction="none", delta=self.delta).mean(dim=(1, 2, 3))


class AdaptiveSquaredError(PixelError):
    """‖Δ‖² / sg(‖Δ‖² + c)^p: images with a large error get less weight (Geng et al. 2025, "Mean flows").

    At p = 1 the gradient is that of `LogSquaredError`; p = 0 is `SquaredError`.

    Args:
        power: p in [0, 1].
        floor: c, of the mean over pixels, in the flow's space.
    """

    def __init__(self, power: Share = 0.5, floor: Positive = 1e-3) -> None:
        self.power = power
        self.floor = floor

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        error = (prediction - target).square().mean(dim=(1, 2, 3))
        return error / (error.detach() + self.floor) ** self.power


class LogSquaredError(PixelError):
    """The logarithm of each image's mean squared difference: the mean PSNR, in which easy images count as much.

    Args:
        floor: added to the squared difference, in the flow's space; smaller errors count little.
    """

    def __init__(self, floor: Positive = 1e-4) -> None:
        self.floor = floor

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return ((prediction - target).square().mean(dim=(1, 2, 3)) + self.floor).log()


class RegionLogSquaredError(PixelError):
    """The mean of the logarithms of the hole and of the known region: their PSNRs.

    In a single logarithm the error of a large hole hides that of the known region, and the other way round.

    Args:
        floor: as in `LogSquaredError`.
        by_area: each region counts as much as its share of the pixels, as in the likelihood of Gaussian errors with a
            variance for each region. Equal weights give a pixel of a small hole the largest gradient; where many holes
            are small, that is noise in which a network from random weights learns little else (docs/log.md).
    """

    def __init__(self, floor: Positive = 1e-4, by_area: bool = False) -> None:
        self.floor = floor
        self.by_area = by_area

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        square = (prediction - target).square().mean(dim=1, keepdim=True)
        total, weights = torch.zeros_like(square[:, 0, 0, 0]), torch.zeros_like(square[:, 0, 0, 0])
        for region in (mask, ~mask):
            pixels = region.sum(dim=(1, 2, 3))
            weight = region.float().mean(dim=(1, 2, 3)) if self.by_area else (pixels > 0).float()
            error = (square * region).sum(dim=(1, 2, 3)) / pixels.clamp(min=1)
            total = total + torch.where(pixels > 0, weight * (error + self.floor).log(), 0.0)
            weights = weights + weight
        return total / weights
