"""From the source to the clean image in a given number of network evaluations."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from restoration.errors import NFE, NotNegative, Positive, UserError
from restoration.flow import Field, column
from restoration.flow.tiling import by_rows


class Sampler(ABC):
    """Integrates dx/dt = velocity(x, t) from t = 0 to t = 1.

    Args:
        nfe: default number of network evaluations, 1 … 1000.
        warp: (a, b) of the time grid t = 1 − (1 − s^a)^b on uniform s, Kumaraswamy's distribution function: a > 1
            makes the first steps short, b > 1 the last ones. (1, 1) is uniform; `restoration.tune` fits it.
        keep: pixels with a smaller residual std than this (in [−1, 1] units) keep a share 1 − (residual_std / keep)²
            of the first evaluation's velocity. That velocity leads to the posterior mean, and a sample of a nearly
            intact pixel can only be worse. 0 samples every pixel.

    Attributes:
        evaluations: of the network in one step.
        order: of the global error.
        two_times: whether it asks the field for displacements over intervals [t, r].

    Raises:
        UserError: a warp or keep out of range.
    """

    evaluations: int
    order: int
    two_times: bool = False

    def __init__(self, nfe: NFE = 8, warp: tuple[Positive, Positive] = (1.0, 1.0), keep: NotNegative = 0.15) -> None:
        if keep < 0:
            raise UserError(f"sampler.keep={keep}: it must not be negative")
        if len(warp) != 2 or min(warp) <= 0:
            raise UserError(f"sampler.warp={list(warp)}: two numbers above 0 are needed")
        self.nfe = nfe
        self.warp = (float(warp[0]), float(warp[1]))
        self.keep = keep
        self.keys: Tensor | None = None  # of the images that are being restored

    def __call__(
        self,
        field: Field,
        x_0: Tensor,
        nfe: int | None = None,
        residual_std: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """x_1 (B, 3, H, W) after exactly `nfe` evaluations.

        If the number is not a multiple of the solver's own, the last step is Euler's. One evaluation is one Euler
        step with every solver.

        Args:
            field: the flow.
            x_0: (B, 3, H, W).
            nfe: evaluations, 1 … 1000; None takes the sampler's own number.
            residual_std: (B, 1, H, W), what `keep` is compared with; None samples every pixel.
            keys: int64 (B,), of x_0; needed by samplers that draw noise on the way.

        Raises:
            UserError: nfe outside 1 … 1000.
        """
        for _, x in self.trajectory(field, x_0, nfe, residual_std, keys):  # noqa: B007 (the last one is the result)
            pass
        return x

    def trajectory(
        self,
        field: Field,
        x_0: Tensor,
        nfe: int | None = None,
        residual_std: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Iterator[tuple[float, Tensor]]:
        """Each time of the grid and x (B, 3, H, W) there, from (0, x_0) on; arguments and errors as of a call."""
        nfe = self.nfe if nfe is None else nfe
        if not 1 <= nfe <= 1000:
            raise UserError(f"nfe={nfe}: choose 1 to 1000 network evaluations")
        whole, rest = divmod(nfe, self.evaluations)
        grid = self.time_grid(whole + rest)
        self.reset()
        self.keys = keys
        if residual_std is not None and self.keep:
            field = KeepFirst(field, (residual_std / self.keep).square_().clamp_(max=1), once=nfe == 1)
        x = x_0
        yield 0.0, x
        for number, (t, t_next) in enumerate(zip(grid, grid[1:], strict=False)):
            x = (self.step if number < whole else euler_step)(field, x, t, t_next)
            yield t_next, x
        self.reset()

    def check_nfe(self, nfe: int) -> None:
        """UserError if some steps of so many evaluations have no length."""
        self.time_grid(sum(divmod(nfe, self.evaluations)))

    def time_grid(self, steps: int) -> list[float]:
        """The steps + 1 times from 0 to 1 between which steps are taken, ascending.

        Raises:
            UserError: a warp so strong that two of them are equal.
        """
        a, b = self.warp
        s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        t = 1 - (1 - s**a) ** b
        if not (t.diff() > 0).all():
            raise UserError(f"sampler.warp={list(self.warp)}: some of {steps} steps have no length; use a weaker warp")
        return t.tolist()

    def reset(self) -> None:  # noqa: B027 (most solvers have no memory)
        """Forget the last trajectory (solvers with memory)."""

    @abstractmethod
    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        """x at t_next."""


class KeepFirst(Field):
    """A field that keeps the first evaluation's velocity, except for a share of it.

    Average velocities over intervals are the field's own: the first does not lead to the posterior mean.

    Args:
        field: the field to evaluate.
        share: (B, 1, H, W) in [0, 1], the share that follows the field.
        once: there is one evaluation only, so the first is not kept in memory.
    """

    def __init__(self, field: Field, share: Tensor, once: bool = False) -> None:
        self.field = field
        self.share = share
        self.once = once
        self.first: Tensor | None = None

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        now = self.field.velocity(x_t, t, r)
        if r is not None:
            return now
        self.first = now if self.first is None else self.first
        return torch.lerp(self.first, now, self.share)

    def clean(self, x_t: Tensor, t: Tensor) -> Tensor:
        now, left = self.field.clean(x_t, t), column(1 - t)

        def velocity(now: Tensor, x: Tensor) -> Tensor:
            return (now - x) / left

        def mixed(now: Tensor, x: Tensor, share: Tensor, first: Tensor | None = None) -> Tensor:
            return torch.lerp(x + left * (velocity(now, x) if first is None else first), now, share)

        if self.first is None and not self.once:
            self.first = by_rows(velocity, now, x_t)
        return by_rows(mixed, now, x_t, self.share, *(() if self.first is None else (self.first,)), out=now)


def euler_step(field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
    """Euler's step, as a step towards x̂_1: at t_next = 1 it is exactly x̂_1, however short the step."""
    clean = field.clean(x, times(x, t))
    return clean if t_next == 1 else torch.lerp(x, clean, (t_next - t) / (1 - t))


def times(x: Tensor, t: float) -> Tensor:
    """The time t for each image of x: (B,)."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)
