"""Smaller images early in the training."""

from typing import Annotated

from torch import Tensor
from torch.nn import functional as F

from restoration.errors import Count, Range, Share

Part = Annotated[float, Range(0, 1, above=True)]


class Resizing:
    """Training images that grow to their full size (Howard 2018, in "DAWNBench"; Touvron et al. 2019).

    Args:
        start: the first side, as a share of the full one.
        until: share of the training after which images have their full size.
        multiple: sides are multiples of it, in pixels.
    """

    def __init__(self, start: Part = 0.5, until: Share = 0.6, multiple: Count = 8) -> None:
        self.start, self.until, self.multiple = start, until, multiple

    def side(self, full: int, progress: float) -> int:
        """Side in pixels at a share in [0, 1] of the training."""
        if progress >= self.until:
            return full
        share = self.start + (1 - self.start) * progress / self.until
        return min(full, max(self.multiple, int(share * full / self.multiple) * self.multiple))

    def __call__(self, images: Tensor, progress: float) -> Tensor:
        """Images (B, 3, H, H) in [0, 1], smaller, without aliases."""
        side = self.side(images.shape[-1], progress)
        if side == images.shape[-1]:
            return images
        return F.interpolate(images, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
