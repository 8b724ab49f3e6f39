"""Intervals [t, r] that terms of two times train on, and what such terms share."""

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import Share, UserError
from restoration.flow import TimeSampler, Uniform
from restoration.keyed import fold
from restoration.objective.base import TermValue
from restoration.objective.errors import PixelError


class Intervals:
    """Pairs of sorted, stratified times.

    Args:
        time: draws both ends.
        whole_share: share of the intervals that is exactly [0, 1], the one that a single step uses.
        end_share: share of the intervals [t, 1]. A derivative in t brings what u is at later t to earlier ones, and so
            to [0, 1]; there alone, without its neighbours, it is free, and runs away.
        equal_share: share of r = t, where the average velocity is the velocity. The term of the flow trains it already.
        growth: share of the training over which the longest interval grows from 0 to 1; all shrink alike, towards t.

    Raises:
        UserError: the shares exceed 1 together.
    """

    def __init__(
        self,
        time: TimeSampler,
        whole_share: Share = 0.2,
        end_share: Share = 0.0,
        equal_share: Share = 0.0,
        growth: Share = 0.0,
    ) -> None:
        if whole_share + end_share + equal_share > 1:
            shares = f"whole_share={whole_share}, end_share={end_share} and equal_share={equal_share}"
            raise UserError(f"intervals: {shares} exceed 1 together")
        self.time = time
        self.whole_share = whole_share
        self.end_share = end_share
        self.equal_share = equal_share
        self.growth = growth

    @property
    def max_nfe(self) -> int | None:
        """How many evaluations can use what they train: one if all lead to the end; None is any number."""
        return 1 if self.whole_share + self.end_share == 1 else None

    def __call__(self, key: Tensor, count: int, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """t and r ≥ t, float32 (count,) in [0, 1], from one int64 key () and the share of the training that is done."""
        one, other = (self.time(fold(key, end), count) for end in ("one", "other"))
        t, r = torch.minimum(one, other), torch.maximum(one, other)
        place = stratified(fold(key, "place"), count)
        t, r = t.where(place >= self.whole_share, 0.0), r.where(place >= self.whole_share + self.end_share, 1.0)
        r = r.where(place < 1 - self.equal_share, t)
        return t, torch.lerp(t, r, grown(progress, self.growth))


def grown(progress: float, share: float) -> float:
    """A factor that grows from 0 to 1 over a share of the training, and is 1 then; 1 for a share of 0."""
    return min(1.0, progress / share) if share else 1.0


def stratified(key: Tensor, count: int) -> Tensor:
    """Uniform draws in [0, 1), float32 (count,), equidistant together, from one int64 key ()."""
    return Uniform(start_share=0.0)(key, count)


def of_rank(batch: Batch, values: Tensor) -> Tensor:
    """Of values (batch.count,) for the images of all ranks, those of this rank, on its device."""
    first = batch.place[0] if batch.place else 0
    return values[first : first + len(batch)].to(batch.clean.device)


def compared(name: str, error: PixelError, prediction: Tensor, target: Tensor, mask: Tensor) -> TermValue:
    """The error of a prediction (B, 3, H, W) whose target is stopped.

    It logs the mean squared error beside the loss, whose weight hides its size, and the ratio of the two norms, which
    is below 1 where the prediction is a mean of several targets.
    """
    target = target.detach()
    square = (prediction - target).detach().square().mean()
    sizes = [image.detach().square().sum(dim=(1, 2, 3)).sqrt() for image in (prediction, target)]
    ratio = (sizes[0] / sizes[1].clamp(min=1e-6)).mean()
    log = {f"{name}_square": square, f"{name}_ratio": ratio}
    return TermValue(error(prediction, target, mask).mean(), log)
