"""Variations of clean training images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.keyed import fold, uniform


def flat_areas(images: Tensor, keys: Tensor, share: float) -> Tensor:
    """Gives some images large areas of exactly one colour, as intact images may have them.

    A quarter of them get bars along two opposite sides, most often black (letterbox), a quarter become black on white
    or white on black (text), a quarter have few colours (drawings), and a quarter are badly exposed, so that dark or
    bright parts are clipped.

    Args:
        images: (B, 3, H, W) in [0, 1].
        keys: int64 (B,), on the CPU.
        share: of the images that are changed.
    """
    if not share:
        return images
    height, width = images.shape[-2:]
    draws = uniform(fold(keys, "flat_areas"), 8).to(images.device)[:, :, None, None]
    changed, kind, value, size, side = draws[:, :5, None].unbind(1)
    colour = torch.where(value < 0.5, 0.0, torch.where(value < 0.75, 1.0, draws[:, 5:]))
    y = torch.linspace(0, 1, height, device=images.device)[:, None]
    x = torch.linspace(0, 1, width, device=images.device)
    across = torch.where(side < 0.5, torch.minimum(y, 1 - y), torch.minimum(x, 1 - x))
    bars = torch.where(across < 0.05 + 0.2 * size, colour, images)
    grey = images.mean(dim=1, keepdim=True)
    page = ((grey > 0.3 + 0.4 * size) != (side < 0.5)).float().expand_as(images)
    steps = (2 + 4 * size).floor()
    drawing = (images * steps).round() / steps
    clipped = ((images - 0.5 + (side - 0.5)) * (1.5 + 2 * size) + 0.5).clamp(0, 1)
    varied = torch.where(kind < 0.5, torch.where(kind < 0.25, bars, page), torch.where(kind < 0.75, drawing, clipped))
    return torch.where(changed < share, varied, images)


def enlarged(images: Tensor, keys: Tensor) -> Tensor:
    """Images of twice the side: each is enlarged by a factor from 2 to 4 and cropped at random.

    Photographs at full resolution are larger and smoother than the thumbnails of a data set, and their smoothness may
    be taken for blur.

    Args:
        images: (B, 3, H, W) in [0, 1].
        keys: int64 (B,), on the CPU.

    Returns:
        (B, 3, 2H, 2W) in [0, 1].
    """
    batch, channels, height, width = images.shape
    draws = uniform(fold(keys, "enlarged"), 3).to(images)
    seen = 2.0 ** -draws[:, 0]  # share of each side that is in the crop
    offset = (1 - seen)[:, None] * (2 * draws[:, 1:] - 1)
    # In the coordinates of `grid_sample`: −1 and 1 are the borders of the image.
    crop = torch.cat([torch.diag_embed(torch.stack([seen, seen], 1)), offset[:, :, None]], dim=2)
    grid = F.affine_grid(crop, [batch, channels, 2 * height, 2 * width], align_corners=False)
    return F.grid_sample(images, grid, "bicubic", "reflection", align_corners=False).clamp(0, 1)
