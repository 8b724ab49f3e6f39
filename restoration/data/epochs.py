"""The order of the training images."""

from collections.abc import Iterator

from torch import Tensor
from torch.utils.data import Sampler

from restoration.keyed import permutation

__all__ = ["EpochBatches"]


class EpochBatches(Sampler[Tensor]):
    """Batches of row numbers in an order keyed by (seed, epoch), so that a run can resume at any batch.

    Args:
        size: number of images.
        batch_size: per rank; an incomplete last batch is dropped.
        seed: of the order.
        rank, world: each rank takes its part of every batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self._skip: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, batch: int) -> None:
        """Skip the first batches of this one epoch, which an interrupted run has seen."""
        self._skip = (epoch, batch)

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[Tensor]:
        order = permutation(self.size, self.seed, "order", self.epoch)
        first = self._skip[1] if self._skip is not None and self._skip[0] == self.epoch else 0
        self._skip = None
        for batch in range(first, len(self)):
            start = (batch * self.world + self.rank) * self.batch_size
            yield order[start : start + self.batch_size]
