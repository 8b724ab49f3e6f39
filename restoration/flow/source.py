"""Sources: where the flow starts."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from restoration.errors import NotNegative, UserError
from restoration.estimator import Estimate
from restoration.flow.path import to_image, to_model


class Source(ABC):
    """x_0 = mean + σ·n given the degraded image y, in the flow's space [−1, 1].

    Args:
        sigma: σ, on the [−1, 1] scale.

    Raises:
        UserError: a negative σ.
    """

    def __init__(self, sigma: NotNegative) -> None:
        if sigma < 0:
            raise UserError(f"source.sigma={sigma}: it must not be negative")
        self.noise_level = sigma

    @abstractmethod
    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        """The mean of x_0, (B, 3, H, W), for degraded images (B, 3, H, W) in [−1, 1] and their estimate."""

    def sigma(self, estimate: Estimate) -> Tensor:
        """Standard deviation of the noise at each pixel, (B, 1, H, W)."""
        return torch.full_like(estimate.residual_std, self.noise_level)


class Noise(Source):
    """x_0 = n: plain conditional generation."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return torch.zeros_like(degraded)


class Degraded(Source):
    """x_0 = y + σ·n.

    Args:
        sigma: with 0 the flow can only return the posterior mean, at any number of steps; regression is its single
            step.
    """

    def __init__(self, sigma: NotNegative = 0.5) -> None:
        super().__init__(sigma)

    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return degraded


class InitialEstimate(Source):
    """x_0 = initial + σ·residual_std·n. Intact pixels get no noise that sampling would have to remove.

    Args:
        sigma: in units of the residual std, which is twice the expected error: 0.5 gives noise of that error's size.
    """

    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return estimate.initial

    def sigma(self, estimate: Estimate) -> Tensor:
        return self.noise_level * estimate.residual_std


class PosteriorMean(nn.Module, Source):
    """x_0 = x̂ + σ·n with x̂ = E[x_1 | y] from a regression restorer (Ohayon et al. 2024, "PMRF").

    The regression becomes part of the restorer: saved with it, and frozen.

    Args:
        restorer: has `restore(degraded, keys, nfe)`; one evaluation must be its posterior mean.
        sigma: PMRF's 0.1 on the [0, 1] scale is 0.2 here.
    """

    def __init__(self, restorer: nn.Module, sigma: NotNegative = 0.2) -> None:
        nn.Module.__init__(self)
        Source.__init__(self, sigma)
        self.restorer = restorer.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "PosteriorMean":
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        keys = torch.zeros(len(degraded), dtype=torch.int64, device=degraded.device)
        return to_model(self.restorer.restore(to_image(degraded), keys, 1).images)  # type: ignore[operator]
