"""The steps of the page, as functions of images: read, mark, damage, restore."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from restoration.errors import UserError
from restoration.flow.tiling import Tiles
from restoration.keyed import fold
from restoration.picture import Picture, encode, is_out_of_memory, read, read_mask
from restoration.restorer import Restorer
from restoration.run.command import CONF

PAINT = (225, 29, 72)
SMALLEST = 16  # px; corruptions need a few pixels for their borders


def corruptions() -> list[str]:
    """The names of the corruptions, one for each file of conf/corruption."""
    return sorted(path.stem for path in (CONF / "corruption").glob("*.yaml"))


def load(path: str | Path, max_megapixels: float) -> Picture:
    """An image file, in 8 bits. UserError of one line if it cannot be read, or is too large or too small."""
    try:
        picture = read(path, max_megapixels)
    except ValueError as error:
        raise UserError(f"This picture cannot be used: {error}.") from error
    height, width = picture.pixels.shape[1:]
    if min(height, width) < SMALLEST:
        raise UserError(f"This picture is too small: {width} x {height} pixels. Each side needs {SMALLEST}.")
    return replace(picture, deep=False, profile=None)


def load_mask(path: str | Path, picture: Picture, max_megapixels: float) -> Tensor:
    """The hole bool (1, H, W) of a mask file, white where content is missing. UserError if it does not fit."""
    try:
        return read_mask(path, picture, max_megapixels=max_megapixels)
    except ValueError as error:
        raise UserError(f"This mask cannot be used: {str(error).partition('; mask_invert')[0]}.") from error


def with_paint(picture: Picture, hole: Tensor | None) -> Image.Image:
    """What is shown for painting on: the image, with its hole bool (1, H, W) in the colour of the paint."""
    image = encode(picture)
    if hole is None:
        return image
    area = Image.fromarray(hole[0].numpy().astype(np.uint8) * 255)
    return Image.composite(Image.new("RGB", image.size, PAINT), image.convert("RGB"), area)


def painted(layers: list[Image.Image], picture: Picture, known: Tensor | None = None) -> Tensor | None:
    """The hole bool (1, H, W) that the layers paint, together with a known one; None if there is none.

    Raises:
        UserError: everything is painted.
    """
    height, width = picture.pixels.shape[1:]
    hole = torch.zeros(1, height, width, dtype=torch.bool) if known is None else known
    for layer in layers:
        alpha = layer.convert("RGBA").getchannel("A").resize((width, height))
        hole = hole | (torch.from_numpy(np.array(alpha)) >= 128)
    if hole.all():
        raise UserError("The whole picture is painted over. Erase some of the paint.")
    return hole if hole.any() else None


def damage(picture: Picture, corruption: str, strength: float, seed: int) -> tuple[Picture, Tensor]:
    """A damaged image and its hole bool (1, H, W).

    Args:
        picture: the clean one.
        corruption: one of `corruptions()`; all of its parts have the severity `strength`.
        strength: in [0, 1]; 0 changes nothing.
        seed: of the damage.
    """
    if corruption not in corruptions():
        raise UserError(f"There is no corruption {corruption}. Choose one of {', '.join(corruptions())}.")
    config = OmegaConf.load(CONF / "corruption" / f"{corruption}.yaml")
    operator = instantiate(OmegaConf.merge(config, {"strength": strength, "severity": "fixed"}))
    degraded, hole, _ = operator(picture.image[None], fold(seed, "app")[None])
    return replace(picture, pixels=(degraded[0] * 255).round().to(torch.uint8)), hole[0]


def restore(
    restorer: Restorer, picture: Picture, hole: Tensor | None, nfe: int, samples: int, seed: int, keep_known: bool
) -> tuple[list[Image.Image], str]:
    """Restored images, one for each sample of the noise, and a line about time and hole.

    Args:
        restorer: on the device to work on.
        picture: the degraded image.
        hole: bool (1, H, W), or None if it is not known.
        nfe: network evaluations per sample.
        samples, seed: number of samples, and seed of their noise.
        keep_known: all pixels outside the hole stay as they are.

    Raises:
        UserError: keep_known without a hole, or memory does not suffice.
    """
    if keep_known and hole is None:
        raise UserError("No hole is painted, so nothing would change. Paint it, or untick 'Change only the hole'.")
    degraded, mask = picture.pixels[None].to(restorer.device), None if hole is None else hole[None]
    begin, images = time.perf_counter(), []
    try:
        for sample in range(samples):
            keys = fold(seed, "sampling", sample)[None].to(restorer.device)
            done = restorer.restore(degraded, keys, nfe, mask=mask, tiles=Tiles(), keep_known=keep_known)
            images.append(encode(replace(picture, pixels=done.images[0].cpu())))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError("There is not enough memory for this picture. Use a smaller one.") from error
    seconds, size = time.perf_counter() - begin, degraded[0, 0].numel() / 1e6
    count = f", {samples} samples" if samples > 1 else ""
    speed = f"{size:.2f} megapixels{count}: {seconds:.1f} s on {restorer.device.type}"
    share = f"{done.hole_share.item():.1%} of the picture was {'taken for' if hole is None else 'marked as'} a hole"
    return images, f"{speed} ({seconds / size / samples:.1f} s per megapixel). {share}."
