"""Predictions: what the network sees, and what its output means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from restoration.errors import Share
from restoration.flow.field import ConditionalField
from restoration.flow.path import column, precondition

# Least 1 − t to divide by in sampling: float32 times below 1 are at least 6e-8 away from it.
_LEAST_TIME_LEFT = 1e-7


@dataclass(frozen=True)
class CleanPrediction(ConditionalField):
    """The network predicts the residual of the initial estimate: x̂_1 = initial + residual_std · network.

    Where the residual std is 0 the result is the initial estimate at every t, so sampling leaves intact pixels alone.
    The network sees the preconditioned input (`flow.precondition`), in the same units.

    Attributes:
        floor: least 1 − t by which the error of x̂_1 is divided in training. It weights times, not images, so the
            minimiser does not change; without it the last times, where the error is smallest, dominate the loss.
    """

    floor: Share = 0.3

    def clean(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        """x̂_1; with r, the point at t = 1 of the straight line from x_t through x_r."""
        x_in = precondition(self.innovation(x_t, t), self.estimate.residual_std, t, self.sigma)
        return torch.addcmul(self.estimate.initial, self.estimate.residual_std, self.output(x_in, x_t, t, r))

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
