"""Heun's method."""

from torch import Tensor

from restoration.flow import Field
from restoration.sampler.base import Sampler, times
from restoration.sampler.midpoint import midpoint_step


class Heun(Sampler):
    """Second order, two evaluations per step: the mean of the slopes at both ends (explicit trapezoid).

    A predicted clean image does not determine the velocity at t = 1, so the step that ends there is the midpoint
    method's, of the same order and cost.
    """

    evaluations = 2
    order = 2

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        if t_next == 1:
            return midpoint_step(field, x, t, t_next)
        slope = field.velocity(x, times(x, t))
        ahead = field.velocity(x + (t_next - t) * slope, times(x, t_next))
        return x + (t_next - t) / 2 * (slope + ahead)
