"""The order of training images, and batches of a store's rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from restoration.data.store import Store
from restoration.keyed import permutation


@dataclass(eq=False)
class EpochBatches(Sampler[Tensor]):
    """Batches of row numbers in an order keyed by (seed, epoch), so that a run can resume at any batch.

    Args:
        size: number of images.
        batch_size: of all ranks together; an incomplete last batch is dropped.
        seed: of the order.
    """

    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        self.epoch = 0
        self._skip: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, batch: int) -> None:
        """Skip the first batches of this one epoch, which an interrupted run has seen."""
        self._skip = (epoch, batch)

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        order = permutation(self.size, self.seed, "order", self.epoch)
        first = self._skip[1] if self._skip is not None and self._skip[0] == self.epoch else 0
        self._skip = None
        for batch in range(first, len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]


@dataclass(eq=False)
class Gather(Dataset[dict[str, Any]]):
    """Batches of a store: the uint8 images, indices and labels of this rank's part of given rows."""

    store: Store
    split: str
    pixels: bool
    rank: int = 0
    world: int = 1

    def __getitem__(self, rows: Tensor) -> dict[str, Any]:
        parts = rows.tensor_split(self.world)
        place = (sum(map(len, parts[: self.rank])), len(rows)) if self.world > 1 else None
        rows = parts[self.rank]
        chosen = rows.numpy()
        batch: dict[str, Any] = {"split": self.split, "rows": rows, "index": torch.from_numpy(self.store.index[chosen])}
        batch["place"] = place
        if self.store.label is not None:
            batch["label"] = torch.from_numpy(self.store.label[chosen])
        if self.pixels:
            self.store.check()
            # In file order, so that a memory map is read front to back.
            order = np.argsort(chosen)
            images = np.empty((len(chosen), *self.store.images.shape[1:]), dtype=np.uint8)
            images[order] = self.store.images[chosen[order]]
            batch["images"] = torch.from_numpy(images)
        return batch
