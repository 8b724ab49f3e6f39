"""Euler's method."""

from torch import Tensor

from restoration.flow import Field
from restoration.sampler.base import Sampler, euler_step


class Euler(Sampler):
    """First order, one evaluation per step. A single step returns the clean image predicted at t = 0."""

    evaluations = 1
    order = 1

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        return euler_step(field, x, t, t_next)
