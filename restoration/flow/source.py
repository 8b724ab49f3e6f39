"""Where the flow starts."""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["Degraded", "Noise", "Source"]


class Source(ABC):
    """The distribution of x_0 given the degraded image, in the flow's space [−1, 1]."""

    @abstractmethod
    def __call__(self, degraded: Tensor, noise: Tensor) -> Tensor:
        """x_0 from the degraded images and standard normal noise, both (B, 3, H, W)."""


class Noise(Source):
    """x_0 = n."""

    def __call__(self, degraded: Tensor, noise: Tensor) -> Tensor:
        return noise


class Degraded(Source):
    """x_0 = y + σ·n.

    Args:
        sigma: σ on the [−1, 1] scale. With 0 the flow can only return the posterior mean, at any number of steps;
            regression is that flow's single step.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        if sigma < 0:
            raise ValueError(f"source.sigma={sigma}: it must not be negative")
        self.sigma = sigma

    def __call__(self, degraded: Tensor, noise: Tensor) -> Tensor:
        return degraded + self.sigma * noise
