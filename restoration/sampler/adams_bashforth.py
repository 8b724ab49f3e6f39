"""The two-step Adams–Bashforth method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["AdamsBashforth2"]


class AdamsBashforth2(Sampler):
    """Second order at one evaluation a step: extrapolates from the previous slope. The first step is Euler's.

    The steps need not be equal: the line through the last two slopes is integrated over the next.
    """

    evaluations = 1
    order = 2

    def reset(self) -> None:
        self._previous: tuple[float, Tensor] | None = None

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        slope = velocity(x, times(x, t))
        extrapolated = slope
        if self._previous is not None:
            t_before, before = self._previous
            ratio = (t_next - t) / (t - t_before) / 2
            extrapolated = (1 + ratio) * slope - ratio * before
        self._previous = (t, slope)
        return x + (t_next - t) * extrapolated
