"""The interface of estimators, and the one that estimates nothing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Estimate:
    """What is known about the degradation before restoration starts, in the flow's space [−1, 1]. No gradient.

    Attributes:
        initial: (B, 3, H, W), the initial estimate of the clean image.
        residual_std: (B, 1, H, W), upper estimate of the standard deviation of clean − initial at each pixel.
        hole: (B, 1, H, W) in [0, 1], probability that the pixel's content is missing.
        given: bool (B, 1, H, W), True where a given mask says that it is, which hides the content from backbone and
            source (`observed`); None hides nothing.
    """

    initial: Tensor
    residual_std: Tensor
    hole: Tensor
    given: Tensor | None = None

    def observed(self, degraded: Tensor) -> Tensor:
        """The degraded image (B, 3, H, W) as backbone and source see it: without the content of a given mask.

        There it is the initial estimate. A hole that was only estimated may be wrong, so its content stays in sight.
        """
        return degraded if self.given is None else degraded.where(~self.given, self.initial)


class Estimator(nn.Module, ABC):
    """Estimates the degradation of an image. It runs once per image, in front of the backbone.

    Attributes:
        condition_on_mask: whether training gives it the mask of the hole; it may ignore it for some of the images.
    """

    condition_on_mask: bool = False

    @abstractmethod
    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        """The estimate for degraded images.

        Args:
            degraded: (B, 3, H, W) in [−1, 1].
            mask: (B, 1, H, W): bool, True where content is missing and nowhere else; or float in [0, 1], the least
                probability that it is missing, as `large_holes` gives; None if unknown.
        """

    def loss(self, estimate: Estimate, degraded: Tensor, clean: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Training losses by name, each a scalar (); none if nothing is trained.

        Args:
            estimate: of the degraded images.
            degraded, clean: (B, 3, H, W) in [−1, 1].
            mask: bool (B, 1, H, W), True where content is missing.
        """
        return {}


class Identity(Estimator):
    """Estimates nothing: the initial estimate is the degraded image, and the residual std is 1 everywhere."""

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        one = torch.ones_like(degraded[:, :1])
        return Estimate(degraded, one, torch.zeros_like(one) if mask is None else mask.to(one))
