"""How training times are drawn."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from restoration.keyed import uniform

__all__ = ["LogitNormal", "TimeSampler", "Uniform"]


class TimeSampler(ABC):
    """Stratified times: one equidistant comb per batch, shifted at random, so that every batch covers [0, 1).

    Args:
        start_share: the share of the draws set to t = 0 exactly, which one step asks for and a continuous law never
            draws.
    """

    def __init__(self, start_share: float = 0.1) -> None:
        if not 0 <= start_share <= 1:
            raise ValueError(f"start_share={start_share}: a share lies in [0, 1]")
        self.start_share = start_share

    def __call__(self, key: Tensor, count: int) -> Tensor:
        """Times float32 (count,) in [0, 1) from one int64 key (); neighbours in the batch are spread apart."""
        draws = uniform(key[None], 1 + count).to(key.device)[0]
        comb = (torch.arange(count, device=key.device) + draws[0]) / count
        comb = comb[draws[1:].argsort()]
        if self.start_share == 1:
            return torch.zeros_like(comb)
        # The comb's last tooth can round up to 1; the largest float32 below it is meant.
        quantile = ((comb - self.start_share) / (1 - self.start_share)).clamp(min=0, max=1 - 2.0**-24)
        return torch.where(comb < self.start_share, torch.zeros_like(comb), self.law(quantile))

    @abstractmethod
    def law(self, quantile: Tensor) -> Tensor:
        """Inverse distribution function: quantiles in [0, 1) to times in [0, 1)."""


class Uniform(TimeSampler):
    """t ~ U[0, 1)."""

    def law(self, quantile: Tensor) -> Tensor:
        return quantile


class LogitNormal(TimeSampler):
    """logit t ~ N(mean, std²) (Esser et al. 2024, "Scaling rectified flow transformers").

    Args:
        mean: above 0 leans to the clean end.
        std: of the logit.
        start_share: as in `TimeSampler`.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, start_share: float = 0.1) -> None:
        super().__init__(start_share)
        self.mean = mean
        self.std = std

    def law(self, quantile: Tensor) -> Tensor:
        inside = quantile.clamp(1e-6, 1 - 1e-6)
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(inside))
