"""Masks: which pixels of an image are missing."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restoration.errors import UserError
from restoration.picture.codec import Picture, read
from restoration.picture.file import MAX_MEGAPIXELS, find_images, printable

# A flat area below this share of the image is no sign of a hole.
FLAT_SHARE = 0.01


def transparent(picture: Picture) -> Tensor:
    """The hole bool (1, H, W) of an image: its transparent pixels, less than half opaque.

    Raises:
        ValueError: no pixel is transparent, or all are.
    """
    if picture.alpha is None:
        raise ValueError("mask=alpha: the image has no transparency")
    return _checked(torch.from_numpy(picture.alpha < 128)[None], "mask=alpha: the transparency", "")


def _checked(hole: Tensor, what: str, hint: str) -> Tensor:
    if not hole.any():
        raise ValueError(f"{what} marks no pixel{hint}")
    if hole.all():
        raise ValueError(f"{what} marks every pixel{hint}")
    return hole


def read_mask(
    source: str | Path | Image.Image | np.ndarray,
    picture: Picture,
    invert: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Tensor:
    """The hole bool (1, H, W) of a picture: True where the mask is brighter than mid-grey.

    Args:
        source: a file, a Pillow image, or an array (H, W), uint8 or bool.
        picture: what it belongs to.
        invert: dark marks the hole.
        max_megapixels: a larger file is refused.

    Raises:
        ValueError: with a reason of one line: unreadable, of another size, empty or full.
    """
    name = f"mask {printable(Path(source).name)}" if isinstance(source, str | Path) else "the mask"
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source.astype(np.uint8) * 255 if source.dtype == bool else source)
    try:
        mask = read(source, max_megapixels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    (height, width), (rows, columns) = mask.pixels.shape[1:], picture.pixels.shape[1:]
    if (height, width) != (rows, columns):
        raise ValueError(f"{name} has {width} x {height} pixels, the image {columns} x {rows}; give one of its size")
    hole = (mask.image.mean(dim=0, keepdim=True) > 0.5) != invert
    return _checked(hole, name, "" if invert else "; mask_invert=true if black marks the hole")


def find_masks(source: Path, images: dict[Path, Path]) -> dict[Path, Path]:
    """The mask file of each image file that has one.

    Args:
        source: one mask for all, or a folder with masks of the images' paths, whatever the suffix.
        images: by file, its path relative to the input.

    Raises:
        UserError: no such file or folder, or an image with several masks.
    """
    if source.is_file():
        return dict.fromkeys(images, source)
    if not source.is_dir():
        raise UserError(f"no mask at {source}; mask= takes an image, a folder of images, or alpha")
    found: dict[Path, list[Path]] = {}
    for name in find_images(source)[0]:
        found.setdefault(Path(name).with_suffix(""), []).append(source / name)
    masks = {}
    for image, relative in images.items():
        own = found.get(relative.with_suffix(""), [])
        if len(own) > 1:
            raise UserError(f"{len(own)} masks in {source} for {printable(relative.as_posix())}; give one of that name")
        if own:
            masks[image] = own[0]
    return masks


def hole_hint(picture: Picture, hole_share: float) -> str | None:
    """What suggests a hole in an image in which none was found; None if nothing does.

    Args:
        hole_share: of the pixels that were taken for a hole.
    """
    if hole_share >= FLAT_SHARE:
        return None
    if picture.alpha is not None and (picture.alpha < 128).any():
        return f"{(picture.alpha < 128).mean():.0%} of it is transparent; mask=alpha restores that"
    if (flat := flat_share(picture.pixels)) >= FLAT_SHARE:
        return f"{flat:.0%} of it is one flat colour; if that is a hole, mark it with mask="
    return None


def flat_share(image: Tensor) -> float:
    """Share of the pixels of the most frequent colour among those that equal their right and lower neighbours.

    Args:
        image: (3, H, W), uint8, or float32 in [0, 1].
    """
    levels = (image if image.dtype == torch.uint8 else (image * 255).round()).to(torch.int32)
    colour = (levels[0] << 16) | (levels[1] << 8) | levels[2]
    same = (colour[:-1, :-1] == colour[1:, :-1]) & (colour[:-1, :-1] == colour[:-1, 1:])
    if not same.any():
        return 0.0
    _, counts = np.unique(colour[:-1, :-1][same].numpy(), return_counts=True)
    return float(counts.max() / colour.numel())
