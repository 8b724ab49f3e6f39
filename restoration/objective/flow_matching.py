"""Flow matching on the straight path."""

import torch
from torch import Tensor

from restoration.backbone import Context
from restoration.batch import Batch
from restoration.flow import TimeSampler, clean_to_velocity, interpolate, to_model
from restoration.keyed import fold
from restoration.objective.base import PixelError, Term, TermValue
from restoration.restorer import Restorer

__all__ = ["FlowMatching"]

# The last twentieth of the path would be all that the logged velocity's error shows.
_LOGGED_FLOOR = 0.05


class FlowMatching(Term):
    """‖v(x_t, t, y) − (x_1 − x_0)‖² (Lipman et al. 2023), conditional on the degraded image y.

    The squared error of the velocity leads to the marginal velocity; its logarithm per image leans to the mean.

    Args:
        time: draws t.
        error: of the velocity.
        start_error: of the draws at t = 0 in place of `error`. One step from there is a regression, which may be
            weighted per image without harm to the flow at later times.
        start_weight: of `start_error`; a logarithm weighs an image by the inverse of its error, so about the typical
            error makes the two comparable.
        floor: least 1 − t that the predicted clean image's error is divided by. It weighs times, not images, so the
            minimiser stays what it is; without it the last times, where the error is smallest, would rule the loss.
        draws: pairs of time and noise per encoded image. The encoder, most of a step while it is frozen, runs once.
        bins: equal parts of (0, 1] in which the velocity loss is logged, beside t = 0.
    """

    def __init__(
        self,
        time: TimeSampler,
        error: PixelError,
        start_error: PixelError | None = None,
        start_weight: float = 1.0,
        floor: float = 0.3,
        draws: int = 1,
        bins: int = 4,
    ) -> None:
        self.time = time
        self.error = error
        self.start_error = start_error
        self.start_weight = start_weight
        self.floor = floor
        self.draws = draws
        self.bins = bins

    def __call__(self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor) -> TermValue:
        # The first image's key stands for the batch: the comb of times is one draw.
        times = self.time(fold(keys[:1], "time")[0], self.draws * len(batch)).to(batch.clean.device)
        total, parts = torch.zeros((), device=times.device), []
        for draw, t in enumerate(times.view(self.draws, len(batch))):
            loss, difference = self._draw(restorer, batch, context, fold(keys, "noise", draw), t)
            total = total + loss / self.draws
            parts.append(difference)
        return TermValue(total, self._by_time(torch.cat(parts), times))

    def _draw(
        self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss () at times t (B,) with the noise of keys (B,), and the velocity's mean squared error (B,)."""
        x_0, x_1 = restorer.start(context.mean, context.deviation, keys), to_model(batch.clean)
        x_t = interpolate(x_0, x_1, t)
        clean = restorer.predict(x_t, t, context)
        velocity, target = (clean_to_velocity(image, x_t, t, self.floor) for image in (clean, x_1))
        loss = self.error(velocity, target, batch.mask)
        if self.start_error is not None:
            loss = torch.where(t == 0, self.start_weight * self.start_error(velocity, target, batch.mask), loss)
        logged = (clean_to_velocity(image, x_t, t, _LOGGED_FLOOR) for image in (clean, x_1))
        difference = torch.sub(*logged).detach()
        return loss.mean(), difference.square().mean(dim=(1, 2, 3))

    def _by_time(self, error: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the velocity at t = 0 and in equal bins of (0, 1]; 0 for an empty one."""
        where = torch.where(t == 0, 0, 1 + (t * self.bins).long().clamp(max=self.bins - 1))
        inside = where[:, None] == torch.arange(self.bins + 1, device=t.device)
        means = (error[:, None] * inside).sum(0) / inside.sum(0).clamp(min=1)
        edges = ["0"] + [f"{number / self.bins:.2f}-{(number + 1) / self.bins:.2f}" for number in range(self.bins)]
        return {f"velocity_t{edge}": mean for edge, mean in zip(edges, means, strict=True)}
