"""Large holes of one colour, which an estimator that was trained on small images finds at lower resolution."""

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.estimator.base import Estimator

# The finest level has at most so many pixels, and the coarsest at least so many on its shorter side.
_MOST_PIXELS, _LEAST_SIDE = 2**20, 48
# A pixel of a coarser level counts if, within so many pixels of it, the finer one has found this share of the hole.
_NEAR, _AGREEMENT = 16, 0.05
# Pixels of the finest level belong to a hole if they differ by less than this from its mean colour around them.
_AROUND, _SAME = 32, 12 / 255


@torch.no_grad()
def large_holes(estimator: Estimator, degraded: Tensor) -> Tensor | None:
    """Where an estimator finds holes in images of half the size, a quarter, and so on.

    It has seen holes of some 30 pixels, and of a larger one it finds the border at most. What a level finds counts
    where the finer one found a part of it, and where the pixels have one colour: that leaves out most of what is only
    taken for a hole, and gives sharp borders (docs/log.md).

    Args:
        estimator: in eval mode.
        degraded: (B, 3, H, W), float in [0, 1] or uint8.

    Returns:
        float32 (B, 1, H, W) in [0, 1], the probability that content is missing; None if nothing was found.
    """
    size, factor = degraded.shape[-2:], 1
    while size.numel() > _MOST_PIXELS * factor**2:
        factor *= 2
    finest = level = _smaller(degraded, factor)
    finer, inner, outer = None, torch.zeros_like(finest[:, :1]), torch.zeros_like(finest[:, :1])
    while min(level.shape[-2:]) >= _LEAST_SIDE:
        hole = estimator(2 * (255 * level).round() / 255 - 1).hole
        if finer is not None:
            agreement = _mean(_halved(finer) * hole, _NEAR) / _mean(hole, _NEAR).clamp(min=1e-6)
            hole = hole * (agreement > _AGREEMENT)
        if finer is None and not hole.any():
            break
        if factor > 1:
            inner = torch.maximum(inner, _as_large(hole, inner))
            outer = torch.maximum(outer, _as_large(_widened(hole), inner))
        if finer is not None:  # a level that finds nothing in an image is passed over
            hole = hole.where(hole.amax(dim=(1, 2, 3), keepdim=True) > 0, _halved(finer))
        finer = hole
        level, factor = _halved(level), 2 * factor
    if not inner.any():
        return None
    colour = _mean(inner * finest, _AROUND) / _mean(inner, _AROUND).clamp(min=1e-6)
    same = (finest - colour).abs().amax(dim=1, keepdim=True) < _SAME
    return _as_large(_widened(outer * same, 2), degraded)


def _as_large(images: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(images, size=like.shape[-2:], mode="nearest")


def _widened(hole: Tensor, pixels: int = 1) -> Tensor:
    return F.max_pool2d(hole, 2 * pixels + 1, stride=1, padding=pixels)


def _mean(images: Tensor, distance: int) -> Tensor:
    """Over the square around each pixel, by rows and then by columns."""
    side = 2 * distance + 1
    rows = F.avg_pool2d(images, (1, side), stride=1, padding=(0, distance))
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(distance, 0))


def _halved(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)


def _smaller(images: Tensor, factor: int, rows: int = 256) -> Tensor:
    """Float32 means over squares of pixels; few rows at a time, since images may be large bytes."""
    scale = 255 if images.dtype == torch.uint8 else 1
    parts = [
        F.avg_pool2d(images[..., top : top + rows, :].float() / scale, factor, ceil_mode=True, count_include_pad=False)
        for top in range(0, images.shape[-2], rows)
    ]
    return torch.cat(parts, dim=-2)
