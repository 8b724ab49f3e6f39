"""The error of the clean image that the network predicts on the way."""

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.flow import ConditionalField, TimeSampler, interpolate, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError
from restoration.objective.interval import of_rank


class EndPoint(Term):
    """The error of x̂_1 predicted from x_t, beside a term that trains the flow.

    Errors beyond squared pixels, such as `PerceptualError`, move x̂_1 away from the posterior mean that the flow's
    velocity is made of, so give it a small weight.

    Args:
        error: of x̂_1.
        time: draws t.
        two_times: x̂_1 is where the average velocity over [t, 1] leads, as in one step of `sampler=mean_flow`; false:
            where the velocity at t leads.
    """

    def __init__(self, error: PixelError, time: TimeSampler, two_times: bool = False) -> None:
        super().__init__()
        self.error = error
        self.time = time
        self.two_times = two_times

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        t = of_rank(batch, self.time(fold(batch.leading(keys), "time"), batch.count))
        x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
        x_t = interpolate(x_0, x_1, t)
        predicted = x_t + field.displacement(x_t, t, torch.ones_like(t)) if self.two_times else field.clean(x_t, t)
        return TermValue(self.error(predicted, x_1, batch.mask).mean())
