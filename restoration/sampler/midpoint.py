"""The explicit midpoint method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["Midpoint"]


class Midpoint(Sampler):
    """Second order, two evaluations a step; never evaluates at t = 1, where the velocity is least known."""

    evaluations = 2
    order = 2

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        half = (t_next - t) / 2
        middle = x + half * velocity(x, times(x, t))
        return x + (t_next - t) * velocity(middle, times(x, t + half))
