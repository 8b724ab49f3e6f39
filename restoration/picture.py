"""Decoding images, and encoding results in kind: grey, 16 bits, alpha, EXIF orientation."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


@dataclass
class Picture:
    """A decoded image, and what is needed to encode a result in the same form.

    Attributes:
        image: float32 (3, H, W) in [0, 1]; a grey image repeats its channel.
        grey: the source has one colour channel.
        deep: the source has 16 bits (or floats) per channel; kept for grey, while Pillow reads colour as 8 bits.
        alpha: uint8 (H, W), or None.
    """

    image: Tensor
    grey: bool = False
    deep: bool = False
    alpha: np.ndarray | None = None


def decode(image: Image.Image) -> Picture:
    """Decodes a Pillow image, turned upright by its EXIF orientation; of an animation, the first frame.

    Raises:
        Exception: any error of the decoder on a damaged file; ValueError for pixel values without a known range.
    """
    image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float32) / (1 if image.mode == "F" else 65535)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("its values are outside [0, 1] (floats) or 16 bits (integers)")
        return Picture(torch.from_numpy(values).expand(3, -1, -1).clone(), grey=True, deep=True)
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    pixels = np.array(image.convert("RGB"))
    return Picture(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, grey=grey, alpha=alpha)


def encode(picture: Picture) -> Image.Image:
    """The Pillow image, rounded to 8 or 16 bits."""
    highest, dtype = (65535, np.uint16) if picture.deep else (255, np.uint8)
    image = picture.image.mean(dim=0) if picture.grey else picture.image.permute(1, 2, 0)
    encoded = Image.fromarray((image.clamp(0, 1).double() * highest).round().numpy().astype(dtype))
    if picture.alpha is not None:
        encoded.putalpha(Image.fromarray(picture.alpha))
    return encoded


def read(path: str | Path) -> Picture:
    """`decode` of a file."""
    with Image.open(path) as opened:
        return decode(opened)


def write(path: Path, picture: Picture) -> None:
    """Writes a PNG; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    encode(picture).save(partial, format="PNG")
    os.replace(partial, path)
