"""Steps of the average velocity."""

from torch import Tensor

from restoration.errors import NFE, Positive
from restoration.flow import Field
from restoration.sampler.base import Sampler, times


class MeanFlow(Sampler):
    """x_r = x_t + (r − t)·u(x_t, t, r), exact for the exact average velocity u, in any number of steps (Geng et al.
    2025, "Mean flows for one-step generative modeling").

    There is no `keep`: one step of u is a sample everywhere, and the posterior mean would be a second evaluation.

    Args:
        nfe: default number of network evaluations, 1 … 1000.
        warp: of the time grid, as in `Sampler`.

    Raises:
        UserError: a warp out of range.
    """

    evaluations = 1
    order = 1
    two_times = True

    def __init__(self, nfe: NFE = 1, warp: tuple[Positive, Positive] = (1.0, 1.0)) -> None:
        super().__init__(nfe, warp, keep=0.0)

    def step(self, field: Field, x: Tensor, t: float, t_next: float) -> Tensor:
        return field.displacement(x, times(x, t), times(x, t_next)).add_(x)
