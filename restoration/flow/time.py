"""How training times are drawn."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from restoration.errors import NotNegative, Share, UserError
from restoration.keyed import uniform


class TimeSampler(ABC):
    """Stratified times: equidistant points per batch, shifted together at random, so that each batch covers [0, 1).

    Args:
        start_share: share of the draws at exactly t = 0, which one-step restoration needs and a continuous
            distribution never draws.

    Raises:
        UserError: a share outside [0, 1].
    """

    def __init__(self, start_share: Share = 0.1) -> None:
        if not 0 <= start_share <= 1:
            raise UserError(f"start_share={start_share}: it must lie in [0, 1]")
        self.start_share = start_share

    def __call__(self, key: Tensor, count: int) -> Tensor:
        """Times float32 (count,) in [0, 1) from one int64 key (); neighbours in the batch are far apart."""
        draws = uniform(key[None], 1 + count).to(key.device)[0]
        points = (torch.arange(count, device=key.device) + draws[0]) / count
        points = points[draws[1:].argsort()]
        if self.start_share == 1:
            return torch.zeros_like(points)
        # The last point can round up to 1; the largest float32 below it is used.
        p = ((points - self.start_share) / (1 - self.start_share)).clamp(min=0, max=1 - 2.0**-24)
        return torch.where(points < self.start_share, torch.zeros_like(points), self.quantile(p))

    @abstractmethod
    def quantile(self, p: Tensor) -> Tensor:
        """Inverse distribution function: probabilities in [0, 1) to times in [0, 1)."""


class Uniform(TimeSampler):
    """t ~ U[0, 1)."""

    def quantile(self, p: Tensor) -> Tensor:
        return p


class LogitNormal(TimeSampler):
    """logit t ~ N(mean, std²) (Esser et al. 2024, "Scaling rectified flow transformers").

    Args:
        mean: positive values favour the clean end.
        std: of the logit.
        start_share: as in `TimeSampler`.
    """

    def __init__(self, mean: float = 0.0, std: NotNegative = 1.0, start_share: Share = 0.1) -> None:
        super().__init__(start_share)
        self.mean = mean
        self.std = std

    def quantile(self, p: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(p.clamp(1e-6, 1 - 1e-6)))
