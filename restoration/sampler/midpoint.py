"""The explicit midpoint method."""

from torch import Tensor

from restoration.flow import Field
from restoration.sampler.base import Sampler, times


class Midpoint(Sampler):
    """Second order, two evaluations per step. It never evaluates at t = 1, where the velocity is undetermined."""

    evaluations = 2
    order = 2

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        return midpoint_step(field, x, t, t_next)


def midpoint_step(field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
    """A step with the slope at its middle."""
    half = (t_next - t) / 2
    middle = x + half * field.velocity(x, times(x, t))
    return x + (t_next - t) * field.velocity(middle, times(x, t + half))
