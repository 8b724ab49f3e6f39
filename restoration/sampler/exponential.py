"""An exponential multistep method for predicted clean images."""

import math

import torch
from torch import Tensor

from restoration.flow import Field
from restoration.flow.tiling import by_rows
from restoration.sampler.base import Sampler, times


class Exponential(Sampler):
    """Three-step Adams–Bashforth on the clean image instead of the slope, one evaluation per step.

    x̂ = x + (1 − t)·v varies less than v. In terms of x̂ the flow is dx/dt = (x̂ − x)/(1 − t). Over a step, x̂ is
    extrapolated by the parabola through its last three values, and the rest is solved exactly (Hochbruck and
    Ostermann 2010, "Exponential integrators", exponential Adams methods; Zhang and Chen 2023, "DEIS", extrapolate the
    noise in the same way). From a = 1 − t to b = 1 − t_next, with x̂ + d·s + e·s² at time t + s,

        x_next = b/a·x + (1 − b/a)·x̂ + d·(a − b − b·ln(a/b)) + e·(a² − b² − 2·a·b·ln(a/b)).

    The first step is Euler's and the second extrapolates linearly, which limits the global order to two.
    """

    evaluations = 1
    order = 2

    def reset(self) -> None:
        self._past: list[tuple[float, Tensor]] = []

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        clean = field.clean(x, times(x, t))
        a, b = 1 - t, 1 - t_next
        logarithm = b * math.log(a / b) if b > 0 else 0.0
        before, first = ([time for time, _ in self._past] + [t, t])[:2]

        def combined(x: Tensor, clean: Tensor, older: Tensor | None = None, oldest: Tensor | None = None) -> Tensor:
            x_next = torch.lerp(x, clean, 1 - b / a)
            if older is None:
                return x_next
            slope, bend = (clean - older) / (t - before), torch.zeros_like(x)
            if oldest is not None:
                bend = (slope - (older - oldest) / (before - first)) / (t - first)
                slope = slope + bend * (t - before)
            return x_next + (a - b - logarithm) * slope + (a * a - b * b - 2 * a * logarithm) * bend

        single = b == 0 and not self._past
        x_next = clean if single else by_rows(combined, x, clean, *(older for _, older in self._past))
        self._past = [(t, clean), *self._past[:1]]
        return x_next
