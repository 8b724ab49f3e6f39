"""Restorers without a network: every file comes back as it was, or with noise."""

import numpy as np
import torch
from torch import Tensor, nn

from restoration.estimator import Identity
from restoration.flow import ConditionalField, to_model
from restoration.restorer import Restorer
from restoration.sampler import Euler


class Still(ConditionalField):
    """A flow that stands still."""

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x_t)

    def training_pair(self, x_0: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Untouched(Restorer):
    """Starts at the degraded image and stays there: every file must come back as it was."""

    stride = 8  # type: ignore[assignment]
    noise = 0.0

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.anchor = nn.Parameter(torch.zeros(()))
        self.estimator, self.sampler = Identity(), Euler(nfe=1)
        self.config = {"sampler": {"_target_": "restoration.sampler.Euler", "nfe": 1}}

    def field(
        self, degraded: Tensor, mask: Tensor | None = None, start: tuple[Tensor, Tensor] | None = None
    ) -> ConditionalField:
        images = to_model(degraded)
        mean, sigma = start or (images, torch.full_like(images[:, :1], self.noise))
        return Still(network=lambda x_in, t, r, noise: x_in, estimate=Identity()(images), mean=mean, sigma=sigma)


class Noisy(Untouched):
    noise = 0.1


def pixels(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
