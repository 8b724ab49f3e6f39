"""Where the flow starts."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["Degraded", "Noise", "Source"]


class Source(ABC):
    """x_0 = mean(y) + σ·n given the degraded image y, in the flow's space [−1, 1].

    Args:
        sigma: σ on the [−1, 1] scale.

    Raises:
        ValueError: a negative σ.
    """

    def __init__(self, sigma: float) -> None:
        if sigma < 0:
            raise ValueError(f"source.sigma={sigma}: it must not be negative")
        self.sigma = sigma

    @abstractmethod
    def mean(self, degraded: Tensor) -> Tensor:
        """(B, 3, H, W) from the degraded images, same shape."""

    def __call__(self, degraded: Tensor, noise: Tensor) -> Tensor:
        """x_0 from the degraded images and standard normal noise, both (B, 3, H, W)."""
        return self.mean(degraded) + self.sigma * noise


class Noise(Source):
    """x_0 = n: plain conditional generation."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def mean(self, degraded: Tensor) -> Tensor:
        return torch.zeros_like(degraded)


class Degraded(Source):
    """x_0 = y + σ·n.

    Args:
        sigma: with 0 the flow can only return the posterior mean, at any number of steps; regression is that
            flow's single step.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__(sigma)

    def mean(self, degraded: Tensor) -> Tensor:
        return degraded
