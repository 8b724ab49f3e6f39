"""Average velocities from the flow's own trajectories."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import Share, UserError
from restoration.flow import ConditionalField, Field, column, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError
from restoration.objective.interval import compared, of_rank, stratified
from restoration.restorer import Restorer
from restoration.sampler import Sampler


class Trajectory(Term):
    """‖x_t + (r − t)·u(x_t, t, r) − x_r‖² for points x_t, x_r of a trajectory that a sampler follows along the field
    (Hu et al. 2026, "CMT: mid-training for efficient learning of consistency, mean flow, and flow map models").

    The trajectories are those of a teacher, which does not change, and have no gradient; nothing is differentiated in
    forward mode. Without a teacher the field follows itself, and another term must train its velocity. x̂_1 is clipped
    to the range of images on the way. With the sampler's `keep`, u learns to leave nearly intact pixels at their mean.

    Args:
        sampler: follows the field from x_0, in its own number of evaluations.
        error: of the point at r.
        whole_share: share of the images that go from x_0 to the end in one step.
        end_share: share of the others that go from any point to the end, as all of the paper's do.
        start_share: share of the others that go from x_0 to any point, as the first of several steps of sampling does;
            the rest go from any point to any later one.
        teacher: checkpoint or run of a flow with the same estimator, source and prediction; its backbone is used. None:
            the field that is trained.
        trust: names of other packages whose code the teacher may use.

    Raises:
        UserError: end_share and start_share exceed 1 together; or as `Restorer.load`.
    """

    two_times = True

    def __init__(
        self,
        sampler: Sampler,
        error: PixelError,
        whole_share: Share = 0.5,
        end_share: Share = 0.4,
        start_share: Share = 0.4,
        teacher: str | None = None,
        trust: Any = None,
    ) -> None:
        super().__init__()
        if end_share + start_share > 1:
            raise UserError(f"trajectory: end_share={end_share} and start_share={start_share} exceed 1 together")
        self.sampler = sampler
        self.error = error
        self.whole_share = whole_share
        self.end_share = end_share
        self.start_share = start_share
        # In a list it is no part of the term, and of no checkpoint.
        self._teacher = [Restorer.load(teacher, trust=trust).backbone.requires_grad_(False)] if teacher else []
        self.max_nfe = 1 if 1 in (whole_share, end_share) else None

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        with torch.no_grad():
            start = field.start(fold(keys, "noise"))
            followed = InRange(self._followed(field, batch))
            points = list(self.sampler.trajectory(followed, start, residual_std=field.residual_std))
        first, last = (of_rank(batch, point) for point in self._draw(batch.leading(keys), batch.count, len(points)))
        times, images = torch.tensor([t for t, _ in points], device=first.device), torch.arange(len(batch))
        states = torch.stack([x for _, x in points])
        x_t, x_r = states[first, images], states[last, images]
        moved = field.displacement(x_t, times[first], times[last])
        return compared("trajectory", self.error, moved, x_r - x_t, batch.mask)

    def _followed(self, field: ConditionalField, batch: Batch) -> ConditionalField:
        """The teacher's field, given the same estimate; without a teacher the field itself."""
        if not self._teacher:
            return field
        seen = field.estimate.observed(to_model(batch.degraded))
        teacher = self._teacher[0].to(seen.device)
        features = teacher.encode(seen, field.estimate)
        return replace(field, network=lambda x_in, t, r, noise: teacher(x_in, t, features))

    def _draw(self, key: Tensor, count: int, points: int) -> tuple[Tensor, Tensor]:
        """Numbers of the first and last points, int64 (count,) each, of so many points."""
        place, one, other = (stratified(fold(key, name), count) for name in ("place", "first", "last"))
        place = (place - self.whole_share) / max(1 - self.whole_share, 1e-6)  # among the others, if not negative
        to_end, from_start = place < self.end_share, place >= 1 - self.start_share
        first = (one * (points - 1)).long().where((place >= 0) & ~from_start, 0)
        later = (first + 1 + (other * (points - 1 - first)).long()).clamp(max=points - 1)
        return first, later.where(~to_end, points - 1)


class InRange(Field):
    """A field whose x̂_1 stays in [−1, 1], as clean images and their means do.

    A network that learns from its own trajectories otherwise learns to run away: where they leave the range it is
    taught to go there, and the next ones go further.
    """

    def __init__(self, field: Field) -> None:
        self.field = field

    def clean(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.field.clean(x_t, t).clamp_(-1, 1)

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        """dx/dt at t < 1."""
        return (self.clean(x_t, t) - x_t) / column(1 - t)
