"""Images side by side in one picture."""

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

ENLARGED = 160  # approximate longer side of a small image after enlarging, in pixels
GAP = 4
TITLE_HEIGHT = 30


def picture_grid(columns: dict[str, Tensor]) -> Image.Image:
    """One row per image, one titled column per kind of image, on white.

    Small images are enlarged by repeating pixels.

    Args:
        columns: title -> (N, 3, H, W) in [0, 1]; at least one, all of one shape.
    """
    pixels = _pixels(torch.stack(list(columns.values()), dim=1).flatten(0, 1))
    width = pixels.shape[-1]
    tiles = make_grid(pixels, nrow=len(columns), padding=GAP, pad_value=255)

    canvas = Image.new("RGB", (tiles.shape[2], TITLE_HEIGHT + tiles.shape[1]), "white")
    canvas.paste(Image.fromarray(tiles.permute(1, 2, 0).numpy()), (0, TITLE_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    fonts = [ImageFont.load_default(size) for size in range(16, 8, -1)]
    for column, title in enumerate(columns):
        centre = (GAP + column * (width + GAP) + width / 2, TITLE_HEIGHT / 2)
        font = next((font for font in fonts if draw.textlength(title, font) <= width), fonts[-1])
        draw.text(centre, title, "#222222", font, "mm")
    return canvas


def enlarged(image: Tensor) -> Image.Image:
    """One image (3, H, W) in [0, 1]; a small one is enlarged by repeating pixels, as in a grid."""
    return Image.fromarray(_pixels(image[None])[0].permute(1, 2, 0).numpy())


def _pixels(images: Tensor) -> Tensor:
    """uint8 (N, 3, H', W') on the CPU."""
    scale = max(1, round(ENLARGED / max(images.shape[-2:])))
    levels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
