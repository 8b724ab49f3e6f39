"""Images side by side in one picture."""

from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

__all__ = ["picture_grid"]

ENLARGED = 160  # approximate longer side of a small image after enlarging, in pixels
GAP = 4
TITLE_HEIGHT = 30


def picture_grid(columns: dict[str, Tensor]) -> Image.Image:
    """One row per image, one titled column per kind of image, on white.

    Small images are enlarged by repeating pixels.

    Args:
        columns: title -> (N, 3, H, W) in [0, 1]; all of one shape.

    Raises:
        ValueError: no column, or columns of different shapes.
    """
    shapes = {tuple(images.shape) for images in columns.values()}
    if len(shapes) != 1:
        raise ValueError(f"the columns of a picture grid have shapes {sorted(shapes)}; they must all have one shape")
    count, _, height, width = shapes.pop()
    scale = max(1, round(ENLARGED / max(height, width)))

    images = torch.stack([images.detach().float().cpu() for images in columns.values()], dim=1).flatten(0, 1)
    pixels = (images.clamp(0, 1) * 255).round().byte().repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tiles = make_grid(pixels, nrow=len(columns), padding=GAP, pad_value=255)

    canvas = Image.new("RGB", (tiles.shape[2], TITLE_HEIGHT + tiles.shape[1]), "white")
    canvas.paste(Image.fromarray(tiles.permute(1, 2, 0).numpy()), (0, TITLE_HEIGHT))
    draw, step = ImageDraw.Draw(canvas), width * scale + GAP
    for column, title in enumerate(columns):
        centre = (GAP + column * step + width * scale / 2, TITLE_HEIGHT / 2)
        draw.text(centre, title, "#222222", _font(draw, title, width * scale), "mm")
    return canvas


def _font(draw: ImageDraw.ImageDraw, title: str, width: int) -> Any:
    """Pillow's default font in the largest size, up to 16, at which the title fits the width."""
    for size in range(16, 8, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(title, font) <= width:
            break
    return font
