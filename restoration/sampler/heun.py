"""Heun's method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["Heun"]


class Heun(Sampler):
    """Second order, two evaluations a step: the mean of the slopes at both ends (the explicit trapezoid).

    A predicted clean image says nothing of the velocity at t = 1, where its error would be divided by next to nothing,
    so the step that ends there is the midpoint method's, of the same order and cost.
    """

    evaluations = 2
    order = 2

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        slope = velocity(x, times(x, t))
        if t_next == 1:
            half = (t_next - t) / 2
            return x + (t_next - t) * velocity(x + half * slope, times(x, t + half))
        ahead = velocity(x + (t_next - t) * slope, times(x, t_next))
        return x + (t_next - t) / 2 * (slope + ahead)
