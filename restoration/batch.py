"""The batch that data modules pass to objectives and metrics."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Batch:
    """B images, clean and degraded.

    Attributes:
        clean: float32 (B, 3, H, W) in [0, 1].
        degraded: float32 (B, 3, H, W) in [0, 1].
        mask: bool (B, 1, H, W); True where the pixel was erased (the hole).
        severity: float32 (B,) in [0, 1]; 0 is the identity.
        index: int64 (B,); identifies the image in its data set and is part of the key of its draws.
        label: int64 (B,), or None if the data set has no classes.
        kind: in evaluation, B names of the kind of degradation, or None if the corruption has only one kind.

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
        return replace(self, **{name: value[:count] for name, value in vars(self).items() if value is not None})
