"""Flow matching on the straight path."""

from typing import Annotated

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import NotNegative, Range
from restoration.flow import ConditionalField, TimeSampler, interpolate, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError


class FlowMatching(Term):
    """‖v(x_t, t, y) − (x_1 − x_0)‖² (Lipman et al. 2023), conditional on the degraded image y.

    The squared error of the velocity has the marginal velocity as its minimiser; the logarithm per image is biased
    towards the mean.

    Args:
        time: draws t.
        error: of the velocity.
        start_error: replaces `error` for the draws at t = 0. One step from there is a regression, which may be
            weighted per image without affecting the flow at later times.
        start_weight: of `start_error`. A logarithm weights an image by the inverse of its error, so about the typical
            error makes the two comparable.
        draws: pairs of time and noise per encoded image. The encoder, most of a step while it is frozen, runs once.
        bins: equal parts of (0, 1] in which the velocity's error is logged, beside t = 0.
    """

    def __init__(
        self,
        time: TimeSampler,
        error: PixelError,
        start_error: PixelError | None = None,
        start_weight: NotNegative = 1.0,
        draws: Annotated[int, Range(1, 1000)] = 1,
        bins: Annotated[int, Range(1, 1000)] = 4,
    ) -> None:
        super().__init__()
        self.time = time
        self.error = error
        self.start_error = start_error
        self.start_weight = start_weight
        self.draws = draws
        self.bins = bins

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        # The first image's key names the draw of all times of the batch, which are stratified together, on all ranks.
        times = self.time(fold(batch.leading(keys), "time"), self.draws * batch.count).to(batch.clean.device)
        first = batch.place[0] if batch.place else 0
        times = times.view(self.draws, batch.count)[:, first : first + len(batch)]
        total, parts = torch.zeros((), device=times.device), []
        for draw, t in enumerate(times):
            loss, difference = self._draw(field, batch, fold(keys, "noise", draw), t)
            total = total + loss / self.draws
            parts.append(difference)
        return TermValue(total, self._by_time(torch.cat(parts), times.reshape(-1), batch))

    def _draw(self, field: ConditionalField, batch: Batch, keys: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The loss () at times t (B,) with the noise of keys (B,), and the mean squared error (B,) it comes from."""
        x_0, x_1 = field.start(keys), to_model(batch.clean)
        velocity, target = field.training_pair(x_0, x_1, interpolate(x_0, x_1, t), t)
        loss = self.error(velocity, target, batch.mask)
        if self.start_error is not None:
            loss = torch.where(t == 0, self.start_weight * self.start_error(velocity, target, batch.mask), loss)
        return loss.mean(), (velocity - target).detach().square().mean(dim=(1, 2, 3))

    def _by_time(self, error: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the velocity at t = 0 and in equal bins of (0, 1]; 0 for an empty one."""
        where = torch.where(t == 0, 0, 1 + (t * self.bins).long().clamp(max=self.bins - 1))
        inside = where[:, None] == torch.arange(self.bins + 1, device=t.device)
        total, number = batch.summed(torch.stack([(error[:, None] * inside).sum(0), inside.sum(0)]))
        means = total / number.clamp(min=1)
        edges = ["0"] + [f"{number / self.bins:.2f}-{(number + 1) / self.bins:.2f}" for number in range(self.bins)]
        return {f"velocity_t{edge}": mean for edge, mean in zip(edges, means, strict=True)}
