"""The field of a flow: what samplers and objectives ask for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restoration.estimator import Estimate
from restoration.flow.path import column
from restoration.keyed import normal

# network(x_in (B, 3, H, W), t (B,), r (B,), noise (B, 3, H, W)) → (B, 3, H, W): a backbone with the features of its
# images. r and noise are None for the instantaneous field.
Network = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


class Field(ABC):
    """Where a point x_t of a trajectory goes. Images are (B, 3, H, W) in [−1, 1], times (B,) in [0, 1].

    Results are new tensors: a sampler may overwrite them.
    """

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        """dx/dt at t; with r, the average velocity over [t, r]."""

    def clean(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x̂_1, the clean image predicted from x_t: where the velocity at t leads in the time that is left."""
        return x_t + column(1 - t) * self.velocity(x_t, t)

    def start(self, keys: Tensor) -> Tensor:
        """x_0 (B, 3, H, W) of int64 keys (B,), for samplers that draw another on the way."""
        raise NotImplementedError

    def displacement(self, x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """x_r − x_t, (r − t) times the average velocity over [t, r]."""
        return column(r - t) * self.velocity(x_t, t, r)


@dataclass(frozen=True)
class ConditionalField(Field):
    """The field that leads from the source to the clean images, given B degraded images.

    A prediction is a subclass: it says what the network sees (`x_in`) and what its output means.

    Attributes:
        network: a backbone with the features of the degraded images.
        estimate: of their degradation.
        mean: (B, 3, H, W), of x_0.
        sigma: (B, 1, H, W), standard deviation of x_0's noise at each pixel.
    """

    network: Network
    estimate: Estimate
    mean: Tensor
    sigma: Tensor

    @property
    def residual_std(self) -> Tensor:
        """(B, 1, H, W), of the initial estimate."""
        return self.estimate.residual_std

    @property
    def hole(self) -> Tensor:
        """(B, 1, H, W) in [0, 1], probability that the pixel's content is missing."""
        return self.estimate.hole

    def start(self, keys: Tensor) -> Tensor:
        """x_0 = mean + σ·n (B, 3, H, W) with the noise of int64 keys (B,)."""
        return self.mean + self.sigma * normal(keys.to(self.mean.device), tuple(self.mean.shape[1:]))

    def innovation(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t minus its expectation under the initial estimate, t·initial + (1 − t)·mean."""
        return x_t - self.mean.lerp(self.estimate.initial, column(t))

    def noise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """ñ, the source's noise in x_t, (B, 3, H, W): the innovation over σ, which at t = 0 is n; 0 where σ is."""
        return self.innovation(x_t, t) / self.sigma.where(self.sigma > 0, torch.inf)

    def output(self, x_in: Tensor, x_t: Tensor, t: Tensor, r: Tensor | None) -> Tensor:
        """The network's; with r it also sees the noise, without which one step could only be the posterior mean."""
        return self.network(x_in, t, r, None if r is None else self.noise(x_t, t))

    def time_weight(self, t: Tensor) -> Tensor:
        """(B,): the factor of the velocity's error at t in training; 1 unless the prediction needs another."""
        return torch.ones_like(t)

    @abstractmethod
    def training_pair(
        self, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor, r: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The velocity at x_t (with r, the average over [t, r]) and x_1 − x_0, (B, 3, H, W), times the weight of t."""
