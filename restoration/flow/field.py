"""The field of a flow: what samplers and objectives ask for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from restoration.estimator import Estimate
from restoration.flow.path import column
from restoration.keyed import normal

# network(x_in (B, 3, H, W), t (B,), r (B,) or None) → (B, 3, H, W): a backbone with the features of its images.
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]


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

    @abstractmethod
    def training_pair(self, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity at x_t and its target, both (B, 3, H, W), weighted over time as this prediction needs it."""
