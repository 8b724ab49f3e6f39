"""Heun's method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["Heun"]


class Heun(Sampler):
    """Second order, two evaluations a step: the mean of the slopes at both ends (the explicit trapezoid)."""

    evaluations = 2
    order = 2

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        slope = velocity(x, times(x, t))
        ahead = velocity(x + (t_next - t) * slope, times(x, t_next))
        return x + (t_next - t) / 2 * (slope + ahead)
