"""Decoding images, and encoding results in kind: grey, 16 bits, alpha."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restoration.picture.colour import colours, has_more, levels, upright
from restoration.picture.file import MAX_MEGAPIXELS, check_size, opened

STRIP = 256  # rows encoded at a time


@dataclass
class Picture:
    """A decoded image, and what is needed to encode a result in the same form.

    Attributes:
        pixels: (3, H, W), sRGB: uint8, or float32 in [0, 1]; a grey image repeats its channel.
        grey: the source has one colour channel.
        deep: the source has 16 bits (or floats) per channel; kept for grey, while Pillow reads colour as 8 bits.
        alpha: uint8 (H, W), or None.
        profile: the ICC profile of deep grey, which is not converted; else None.
        first_of_many: the file has more frames or pages.
    """

    pixels: Tensor
    grey: bool = False
    deep: bool = False
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    first_of_many: bool = False

    @property
    def image(self) -> Tensor:
        """The pixels as float32 (3, H, W) in [0, 1]."""
        return unit(self.pixels)


def unit(pixels: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def decode(image: Image.Image) -> Picture:
    """Decodes a Pillow image as a viewer shows it: upright, in sRGB; of an animation, the first frame.

    Raises:
        Exception: any error of the decoder on a damaged file; ValueError for pixel values without a known range.
    """
    image.load()
    many, image = has_more(image), upright(image)
    deep, profile = image.mode.startswith(("I", "F")), None
    if deep:
        (values, alpha), grey = levels(image), True
        pixels = torch.from_numpy(values).expand(3, -1, -1)
        deep = alpha is None  # Pillow has no 16-bit grey with alpha.
        profile = image.info.get("icc_profile")
    else:
        rgb, alpha, grey = colours(image)
        pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    return Picture(pixels, grey, deep, None if alpha is None else np.asarray(alpha), profile, many)


def encode(picture: Picture) -> Image.Image:
    """The Pillow image, rounded to 8 or 16 bits."""
    highest, dtype = (65535, np.uint16) if picture.deep else (255, np.uint8)
    height, width = picture.pixels.shape[1:]
    values = np.empty((height, width) if picture.grey else (height, width, 3), dtype)
    for top in range(0, height, STRIP):  # In strips: whole images in float64 would need 100 bytes for each pixel.
        rows = unit(picture.pixels[:, top : top + STRIP])
        rows = rows.mean(dim=0) if picture.grey else rows.permute(1, 2, 0)
        values[top : top + STRIP] = (rows.clamp(0, 1).double() * highest).round().numpy().astype(dtype)
    encoded = Image.fromarray(values)
    if picture.alpha is not None:
        encoded.putalpha(Image.fromarray(picture.alpha))
    return encoded


def read(source: str | Path | Image.Image, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """`decode` of a file or a Pillow image up to a size; ValueError with a reason of one line."""
    if isinstance(source, Image.Image):
        check_size(source, max_megapixels)
        return decode(source)
    with opened(source, max_megapixels) as image:
        return decode(image)


def write(path: Path, picture: Picture) -> None:
    """Writes a PNG; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            encode(picture).save(file, format="PNG", icc_profile=picture.profile)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
