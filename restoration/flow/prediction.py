"""What the network's answer stands for."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from restoration.backbone import Context
from restoration.flow.path import evidence

__all__ = ["Clean", "Network", "Prediction", "Velocity"]

# network(input (B, 3, H, W), t (B,), context) → (B, 3, H, W)
Network = Callable[[Tensor, Tensor, Context], Tensor]


class Prediction(ABC):
    """From the network to the clean image that it predicts, in the flow's space [−1, 1]."""

    @abstractmethod
    def __call__(self, network: Network, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """x̂ (B, 3, H, W) from x_t (B, 3, H, W) at t (B,)."""


class Clean(Prediction):
    """The network changes the base, the degraded image with its hole filled: x̂ = base + scale · network.

    Where the scale is 0 the answer is the degraded image at every t, so sampling leaves alone what is intact. The
    network sees the evidence in x_t, in the same units.
    """

    def __call__(self, network: Network, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        told = evidence(_innovation(x_t, t, context), context.scale, t, context.deviation)
        return torch.addcmul(context.base, context.scale, network(told, t, context))


class Velocity(Prediction):
    """The network answers with the velocity, less what is known of it: v̂ = base − mean(x_0) + network.

    It sees the innovation of x_t as it is, and must itself undo the noise that v̂ holds.
    """

    def __call__(self, network: Network, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        velocity = context.base - context.mean + network(_innovation(x_t, t, context), t, context)
        return x_t + (1 - t)[:, None, None, None] * velocity


def _innovation(x_t: Tensor, t: Tensor, context: Context) -> Tensor:
    """x_t less what was known of it beforehand, t·base + (1 − t)·mean(x_0)."""
    return x_t - torch.lerp(context.mean, context.base, t[:, None, None, None])
