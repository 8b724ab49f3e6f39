"""Average velocities over an interval from those over its two parts."""

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.flow import ConditionalField, column, interpolate, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError
from restoration.objective.interval import Intervals, compared, of_rank, stratified


class IntervalSplitting(Term):
    """‖u(x_t, t, r) − sg(λ·u(x_t, t, s) + (1 − λ)·u(x_s, s, r))‖² with s = t + λ·(r − t), λ ~ U[0, 1), and
    x_s = x_t + (s − t)·u(x_t, t, s) (Guo et al. 2025, "SplitMeanFlow: interval splitting consistency").

    Three plain passes of the network. It only makes averages consistent; another term must train the velocity, which
    they start from.

    Args:
        intervals: draws t and r.
        error: of the velocity.
    """

    two_times = True

    def __init__(self, intervals: Intervals, error: PixelError) -> None:
        super().__init__()
        self.intervals = intervals
        self.error = error
        self.max_nfe = intervals.max_nfe

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        key, count = batch.leading(keys), batch.count
        ends = self.intervals(fold(key, "time"), count, progress)
        t, r, share = (of_rank(batch, value) for value in (*ends, stratified(fold(key, "middle"), count)))
        x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
        x_t, s = interpolate(x_0, x_1, t), torch.lerp(t, r, share)
        with torch.no_grad():
            first = field.velocity(x_t, t, s)
            second = field.velocity(x_t + column(s - t) * first, s, r)
            target = torch.lerp(second, first, column(share))
        average, _ = field.training_pair(x_0, x_1, x_t, t, r)
        return compared("splitting", self.error, average, column(field.time_weight(t)) * target, batch.mask)
