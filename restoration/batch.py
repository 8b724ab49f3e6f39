"""The batch that data modules pass to objectives and metrics."""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass
class Batch:
    """B images, clean and degraded.

    Attributes:
        clean: float32 (B, 3, H, W) in [0, 1].
        degraded: float32 (B, 3, H, W) in [0, 1].
        mask: bool (B, 1, H, W); True where the pixel was erased (the hole).
        severity: float32 (B,) in [0, 1], of the known region, or of the hole if the corruption only erases; 0 is the
            identity.
        index: int64 (B,); identifies the image in its data set and is part of the key of its draws.
        label: int64 (B,), or None if the data set has no classes.
        kind: in evaluation, B names of the kind of degradation (`Corruption.kinds`), or None if there is only one.
        place: with several ranks, where these images are in the batch of all ranks: the position of the first one,
            and the number of all.

    Raises:
        ValueError: a field has another shape or type.
    """

    clean: Tensor
    degraded: Tensor
    mask: Tensor
    severity: Tensor
    index: Tensor
    label: Tensor | None = None
    kind: list[str] | None = None
    place: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        batch, channels, height, width = self.clean.shape
        if channels != 3:
            raise ValueError(f"clean has {channels} channels; images are RGB, (B, 3, H, W)")
        expected = {
            "clean": ((batch, 3, height, width), torch.float32),
            "degraded": ((batch, 3, height, width), torch.float32),
            "mask": ((batch, 1, height, width), torch.bool),
            "severity": ((batch,), torch.float32),
            "index": ((batch,), torch.int64),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape or value.dtype != dtype:
                raise ValueError(
                    f"{name} is {value.dtype} {tuple(value.shape)}; expected {dtype} {shape} for these clean images"
                )

    def __len__(self) -> int:
        return len(self.index)

    def first(self, count: int) -> "Batch":
        """The first `count` images."""
        parts = {name: value[:count] for name, value in vars(self).items() if isinstance(value, Tensor | list)}
        return Batch(**(vars(self) | parts))

    def leading(self, keys: Tensor) -> Tensor:
        """The key int64 () of the first image of all ranks, from this rank's keys (B,). The first rank has it."""
        key = keys[0].clone()
        if self.place is not None:
            distributed.broadcast(key, src=0)
        return key

    @property
    def count(self) -> int:
        """Number of images on all ranks."""
        return len(self) if self.place is None else self.place[1]

    def summed(self, value: Tensor) -> Tensor:
        """The sum of a value without gradient over the ranks."""
        if self.place is not None:
            value = value.clone()
            distributed.all_reduce(value)
        return value

    def averaged(self, mean: Tensor) -> Tensor:
        """The mean over the images of all ranks, from the means over those of each rank."""
        return mean if self.place is None else self.summed(mean * len(self)) / self.count
