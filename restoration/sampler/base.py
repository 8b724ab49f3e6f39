"""From the source to the clean image in a given number of network evaluations."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from restoration.errors import UserError

__all__ = ["Sampler", "Velocity"]

# velocity(x_t (B, 3, H, W), t (B,)) → (B, 3, H, W)
Velocity = Callable[[Tensor, Tensor], Tensor]


class Sampler(ABC):
    """Integrates dx/dt = velocity(x, t) from t = 0 to t = 1.

    Args:
        nfe: evaluations of the network unless the call says otherwise, 1 … 1000.
        warp: (a, b) of the grid t = 1 − (1 − s^a)^b on uniform s, Kumaraswamy's distribution function: a above 1
            makes the first steps short, b above 1 the last ones. (1, 1) is uniform; `restoration.tune` fits it.
        keep: pixels of a smaller scale than this (`Context.scale`, twice the expected error, in [−1, 1] units) keep the
            velocity of the first evaluation, by a share of 1 − (scale / keep)². That one leads to the estimate at
            t = 0; a sample of what is nearly intact could only be worse. 0 samples every pixel.

    Attributes:
        evaluations: of the network in one step.
        order: of the global error.
    """

    evaluations: int
    order: int

    def __init__(self, nfe: int = 8, warp: tuple[float, float] = (1.0, 1.0), keep: float = 0.15) -> None:
        if keep < 0:
            raise ValueError(f"sampler.keep={keep}: it must not be negative")
        if len(warp) != 2 or min(warp) <= 0:
            raise ValueError(f"sampler.warp={list(warp)}: two numbers above 0 are needed")
        self.nfe = nfe
        self.warp = (float(warp[0]), float(warp[1]))
        self.keep = keep

    def __call__(self, velocity: Velocity, x_0: Tensor, nfe: int | None = None, scale: Tensor | None = None) -> Tensor:
        """x_1 (B, 3, H, W) after exactly `nfe` evaluations.

        Where the count is not a multiple of the solver's own, the last step is Euler's; one evaluation is one Euler
        step with every solver.

        Args:
            velocity: the field.
            x_0: (B, 3, H, W).
            nfe: evaluations, 1 … 1000; None is the sampler's own number.
            scale: (B, 1, H, W), what `keep` is compared with; None samples every pixel.

        Raises:
            UserError: nfe outside 1 … 1000.
        """
        nfe = self.nfe if nfe is None else nfe
        if not 1 <= nfe <= 1000:
            raise UserError(f"nfe={nfe}: choose 1 to 1000 network evaluations")
        whole, rest = divmod(nfe, self.evaluations)
        grid = self.grid(whole + rest)
        self.reset()
        if scale is not None and self.keep:
            velocity = keeping_first(velocity, (scale / self.keep).square().clamp(max=1))
        x = x_0
        for number, (t, t_next) in enumerate(zip(grid, grid[1:], strict=False)):
            if number < whole:
                x = self.step(velocity, x, t, t_next)
            else:
                x = x + (t_next - t) * velocity(x, times(x, t))
        return x

    def grid(self, steps: int) -> list[float]:
        """The times between which steps are taken, from 0 to 1: steps + 1 of them, ascending.

        Raises:
            UserError: a warp so strong that two of them are one.
        """
        a, b = self.warp
        s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        t = 1 - (1 - s**a) ** b
        if not (t.diff() > 0).all():
            raise UserError(f"sampler.warp={list(self.warp)} leaves some of {steps} steps no length; take less of it")
        return t.tolist()

    def reset(self) -> None:  # noqa: B027 (most solvers have nothing to forget)
        """Forget the last trajectory (solvers with memory)."""

    @abstractmethod
    def step(self, velocity: Velocity, x: Tensor, t: float, t_next: float) -> Tensor:
        """x at t_next."""


def keeping_first(velocity: Velocity, changing: Tensor) -> Velocity:
    """The velocity of the first call, but for a share `changing` in [0, 1] of it that follows the field."""
    first: Tensor | None = None

    def kept(x: Tensor, t: Tensor) -> Tensor:
        nonlocal first
        now = velocity(x, t)
        first = now if first is None else first
        return torch.lerp(first, now, changing)

    return kept


def times(x: Tensor, t: float) -> Tensor:
    """The time t for each image of x: (B,)."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)
