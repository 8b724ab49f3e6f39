"""Euler's method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["Euler"]


class Euler(Sampler):
    """First order, one evaluation a step. Its single step is the network's answer at t = 0."""

    evaluations = 1
    order = 1

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        return x + (t_next - t) * velocity(x, times(x, t))
