"""Jumps to the end, and back towards the source."""

from torch import Tensor

from restoration.errors import NFE, Positive
from restoration.flow import Field
from restoration.keyed import fold
from restoration.sampler.base import times
from restoration.sampler.mean_flow import MeanFlow


class Consistency(MeanFlow):
    """x̂_1 = x_t + (1 − t)·u(x_t, t, 1), then x_r = (1 − r)·x_0 + r·x̂_1 with another x_0 of the source (Song et al.
    2023, "Consistency models", algorithm 1).

    It uses the jumps to the end alone, and the new noise forgets the error of the one before. One evaluation is that of
    `MeanFlow`. There is no `keep`, as there.

    Args:
        nfe: default number of network evaluations, 1 … 1000.
        warp: of the time grid, as in `Sampler`.

    Raises:
        UserError: a warp out of range.
    """

    def __init__(self, nfe: NFE = 1, warp: tuple[Positive, Positive] = (1.0, 1.6)) -> None:
        super().__init__(nfe, warp)
        self.drawn = 0

    def reset(self) -> None:
        self.drawn = 0

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        """x at t_next.

        Raises:
            ValueError: there are no keys.
        """
        end = field.displacement(x, times(x, t), times(x, 1.0)).add_(x)
        if t_next == 1:
            return end
        if self.keys is None:
            raise ValueError("the consistency sampler draws noise: give keys")
        self.drawn += 1
        return field.start(fold(self.keys, "again", self.drawn)).lerp_(end, t_next)
