"""Variations of clean training images."""

import torch
from torch import Tensor

from restoration.keyed import fold, uniform


def flat_areas(images: Tensor, keys: Tensor, share: float) -> Tensor:
    """Gives some images large areas that are exactly black or white, as intact images may have them.

    A third of them get bars along two opposite sides (letterbox), a third become black on white or white on black
    (text, drawings), and a third are badly exposed, so that dark or bright parts are clipped.

    Args:
        images: (B, 3, H, W) in [0, 1].
        keys: int64 (B,), on the CPU.
        share: of the images that are changed.
    """
    if not share:
        return images
    height, width = images.shape[-2:]
    draws = uniform(fold(keys, "flat_areas"), 5).to(images.device)[:, :, None, None, None]
    changed, kind, value, size, side = draws.unbind(1)
    value = (value < 0.25).float()  # black is the usual one
    y = torch.linspace(0, 1, height, device=images.device)[:, None]
    x = torch.linspace(0, 1, width, device=images.device)
    across = torch.where(side < 0.5, torch.minimum(y, 1 - y), torch.minimum(x, 1 - x))
    bars = torch.where(across < 0.05 + 0.2 * size, value, images)
    grey = images.mean(dim=1, keepdim=True)
    page = ((grey > 0.3 + 0.4 * size) != (side < 0.5)).float().expand_as(images)
    clipped = ((images - 0.5 + (side - 0.5)) * (1.5 + 2 * size) + 0.5).clamp(0, 1)
    varied = torch.where(kind < 1 / 3, bars, torch.where(kind < 2 / 3, page, clipped))
    return torch.where(changed < share, varied, images)
