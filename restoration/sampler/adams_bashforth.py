"""The two-step Adams–Bashforth method."""

from torch import Tensor

from restoration.sampler.base import Sampler, Velocity, times

__all__ = ["AdamsBashforth2"]


class AdamsBashforth2(Sampler):
    """Second order at one evaluation a step: extrapolates from the previous slope. The first step is Euler's."""

    evaluations = 1
    order = 2

    def reset(self) -> None:
        self._previous: Tensor | None = None

    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        slope = velocity(x, times(x, t))
        extrapolated = slope if self._previous is None else 1.5 * slope - 0.5 * self._previous
        self._previous = slope
        return x + (t_next - t) * extrapolated
