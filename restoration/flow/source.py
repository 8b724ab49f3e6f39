"""Where the flow starts."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from restoration.backbone import Context
from restoration.flow.path import to_image, to_model

__all__ = ["Base", "Degraded", "Noise", "PosteriorMean", "Source"]


class Source(ABC):
    """x_0 = mean + deviation·n given what is known of the degraded image y, in the flow's space [−1, 1].

    Args:
        sigma: σ, the deviation unless a source says otherwise, on the [−1, 1] scale.

    Raises:
        ValueError: a negative σ.
    """

    def __init__(self, sigma: float) -> None:
        if sigma < 0:
            raise ValueError(f"source.sigma={sigma}: it must not be negative")
        self.sigma = sigma

    @abstractmethod
    def mean(self, context: Context) -> Tensor:
        """(B, 3, H, W)."""

    def deviation(self, context: Context) -> Tensor:
        """(B, 1, H, W), the noise's standard deviation at each pixel: σ everywhere."""
        return torch.full_like(context.scale, self.sigma)


class Noise(Source):
    """x_0 = n: plain conditional generation."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def mean(self, context: Context) -> Tensor:
        return torch.zeros_like(context.degraded)


class Degraded(Source):
    """x_0 = y + σ·n.

    Args:
        sigma: with 0 the flow can only return the posterior mean, at any number of steps; regression is that
            flow's single step.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__(sigma)

    def mean(self, context: Context) -> Tensor:
        return context.degraded


class Base(Source):
    """x_0 = base + σ·scale·n: the degraded image with its hole filled, and noise as large as the error expected there.

    What is intact gets no noise that sampling would have to take away again.

    Args:
        sigma: in units of `Context.scale`, twice the expected error: 0.5 is noise of that error's size.
    """

    def mean(self, context: Context) -> Tensor:
        return context.base

    def deviation(self, context: Context) -> Tensor:
        return self.sigma * context.scale


class PosteriorMean(nn.Module, Source):
    """x_0 = x̂ + σ·n with x̂ = E[x_1 | y] as a regression restorer has it (Ohayon et al. 2024, "PMRF").

    The regression is part of the restorer that it serves: saved with it, and frozen.

    Args:
        restorer: gives `restore(degraded, keys, nfe)`; one evaluation must be its posterior mean.
        sigma: PMRF's 0.1 on the [0, 1] scale is 0.2 here.
    """

    def __init__(self, restorer: nn.Module, sigma: float = 0.2) -> None:
        nn.Module.__init__(self)
        Source.__init__(self, sigma)
        self.restorer = restorer.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "PosteriorMean":
        """Always in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def mean(self, context: Context) -> Tensor:
        keys = torch.zeros(len(context.degraded), dtype=torch.int64, device=context.degraded.device)
        return to_model(self.restorer.restore(to_image(context.degraded), keys, 1))  # type: ignore[operator]
