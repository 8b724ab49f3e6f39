"""Dead leaves: procedural images with the occlusion, contrast and gradients of natural ones, from a seed.

Opaque shapes with radii from the power law r^-3 are laid over each other until they cover the image (Matheron 1968;
Lee, Mumford & Huang 2001, "Occlusion models for natural images"; Baradad et al. 2021, "Learning to see by looking at
noise"). Occlusion gives edges at every scale; here each leaf also has shading, stripes and 1/f roughness.
Their power spectrum falls faster than that of photographs (exponent −3.0 against −2.1 for Tiny ImageNet).
"""

import functools
import math
import os
from dataclasses import dataclass
from itertools import starmap
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from restoration.data.datamodule import RestorationDataModule
from restoration.data.decode import parallel
from restoration.data.store import Store
from restoration.errors import Range, UserError
from restoration.keyed import fold, normal, uniform

SUPERSAMPLING = 3  # each pixel is the mean of 3 x 3 samples
LEAVES = 400  # about 100 are visible; their total area is twice that of the image, and a background fills gaps
RADII = (1 / 22, 0.7)  # in image sides; at 32 pixels the smallest leaf is 3 pixels wide
CORNERS = 28
TILE = 256  # side of the tile of 1/f noise that roughness is cropped from, samples
ROUGHNESS_SPAN = 96  # tile samples across an image: at 32 pixels no sample is skipped
CHUNK = 64  # images per task

# First index of each split; far enough apart that splits cannot overlap.
STARTS = {"train": 0, "selection": 100_000_000, "test": 200_000_000}
Images = Annotated[int, Range(1, STARTS["selection"])]


@dataclass(eq=False, repr=False, kw_only=True)
class DeadLeaves(RestorationDataModule):
    """Dead leaves, drawn into memory. An image depends on the image seed, its index and the size only.

    Args, beside those of `RestorationDataModule`:
        train_images, selection_images, test_images: number of images in each split.
        image_seed: of the images; separate from `seed`, so that runs of several seeds are tested on the same images.

    Raises:
        UserError: there are too few or too many images.
    """

    train_images: Images = 8192
    selection_images: Images = 256
    test_images: Images = 1000
    image_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.counts = {split: getattr(self, f"{split}_images") for split in STARTS}
        for split, count in self.counts.items():
            if not 1 <= count <= STARTS["selection"]:
                raise UserError(f"data.{split}_images={count}: it must be in 1 … {STARTS['selection']:,}")

        needed, memory = sum(self.counts.values()) * self.image_size**2 * 3, physical_memory()
        if needed > memory:
            raise UserError(
                f"data.train_images={self.train_images} (and the others) of data.image_size={self.image_size} take "
                f"{needed / 1e9:,.0f} GB, more than the memory of {memory / 1e9:,.0f} GB; make one smaller"
            )

    def load_splits(self) -> dict[str, Store]:
        index = np.concatenate([STARTS[split] + np.arange(count) for split, count in self.counts.items()])
        images = dead_leaves(index, self.image_size, self.image_seed)
        return Store(images, index).split(self.counts)


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def dead_leaves(index: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Draws the images with these indices, int64 (N,), of the data set of a seed: uint8 (N, size, size, 3)."""
    images = np.empty((len(index), size, size, 3), np.uint8)
    starts = range(0, len(index), CHUNK)
    calls = [(index[start : start + CHUNK], size, seed) for start in starts]
    # Few images: starting processes would take longer than drawing.
    drawn = parallel(_draw_chunk, calls) if len(calls) >= 8 else starmap(_draw_chunk, calls)
    with tqdm(total=len(index), desc="drawing dead leaves", unit="image", disable=None) as bar:
        for start, chunk in zip(starts, drawn, strict=True):
            images[start : start + CHUNK] = chunk
            bar.update(len(chunk))
    return images


def _draw_chunk(index: np.ndarray, size: int, seed: int) -> np.ndarray:
    keys = fold(seed, "dead leaves", torch.from_numpy(np.ascontiguousarray(index)))
    side = size * SUPERSAMPLING
    corners, inside = (part.numpy() for part in _outlines(keys, side))
    looks = _looks(keys)
    tile = _rough_tile(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    images = np.empty((len(index), size, size, 3), np.uint8)
    for image, pixels in enumerate(images):
        leaf = _stack(corners[image], inside[image], side)
        pixels[:] = _shade(leaf, {name: look[image] for name, look in looks.items()}, tile, x, y)
    return images


def _outlines(keys: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Corners of the leaves of each image, in samples, float32 (B, L, 2 * CORNERS); which are visible, bool (B, L)."""
    place, form = (uniform(fold(keys, purpose), LEAVES * 4).view(-1, LEAVES, 4) for purpose in ("place", "form"))
    low, high = RADII
    # Inverse transform sampling of the density r^-3 on [low, high].
    radius = (low**-2 - place[..., 0] * (low**-2 - high**-2)).rsqrt()
    margin = 0.5 + high
    centre_x, centre_y = 0.5 + margin * (2 * place[..., 1] - 1), 0.5 + margin * (2 * place[..., 2] - 1)
    turn = 2 * math.pi * place[..., 3]

    # Superellipses |x/a|^p + |y/b|^p = 1: half are discs, the others ellipses, diamonds, and rounded and sharp boxes.
    disc = form[..., 0] < 0.5
    stretch = torch.where(disc, 1.0, 1 + 2 * form[..., 1].square()).sqrt()
    power = torch.where(disc, 2.0, torch.tensor([1.2, 2.0, 5.0, 12.0])[(form[..., 2] * 4).long()])
    angle = torch.arange(CORNERS) * (2 * math.pi / CORNERS)
    cosine, sine, power = angle.cos(), angle.sin(), power[..., None]
    along, across = radius * stretch, radius / stretch
    scale = (cosine.abs() ** power + sine.abs() ** power) ** (-1 / power)
    u, v = along[..., None] * scale * cosine, across[..., None] * scale * sine
    c, s = turn.cos()[..., None], turn.sin()[..., None]
    corners = torch.stack([centre_x[..., None] + c * u - s * v, centre_y[..., None] + s * u + c * v], dim=-1) * side
    nearest, farthest = corners.amin(dim=2), corners.amax(dim=2)
    return corners.flatten(2), ((farthest > 0) & (nearest < side)).all(dim=-1)


def _looks(keys: Tensor) -> dict[str, np.ndarray]:
    """Appearance of each leaf of each image; leaf 0 is the background.

    The colours of an image differ more in brightness than in hue, as under one light.
    """
    draws = uniform(fold(keys, "look"), (LEAVES + 1) * 10).view(-1, LEAVES + 1, 10)
    tints = normal(fold(keys, "tint"), (LEAVES + 1, 2))
    family = normal(fold(keys, "family"), (1, 2))
    brightness = 0.08 + 0.84 * draws[..., 0]
    warm, green = (0.09 * tints + 0.08 * family).unbind(dim=-1)
    colour = torch.stack([brightness + warm, brightness + green, brightness - warm - 0.5 * green], dim=-1)
    # Shading: a linear ramp, up to 0.6 across the image.
    turn, ramp = 2 * math.pi * draws[..., 1], 0.6 * draws[..., 2]
    # Stripes on a third of the leaves, 3 to 12 periods across the image, resolved at every size.
    direction, periods = math.pi * draws[..., 3], 3 * 4 ** draws[..., 4]
    stripes = torch.where(draws[..., 5] < 0.33, 0.05 + 0.15 * draws[..., 6], 0.0)
    return {
        "colour": colour.numpy(),
        "ramp": torch.stack([ramp * turn.cos(), ramp * turn.sin()], dim=-1).numpy(),
        "wave": (2 * math.pi * torch.stack([periods * direction.cos(), periods * direction.sin()], dim=-1)).numpy(),
        "stripes": stripes.numpy(),
        "rough": (0.3 * draws[..., 7].square()).numpy(),
        "offset": (draws[..., 8:] * TILE).long().numpy(),
    }


def _stack(corners: np.ndarray, inside: np.ndarray, side: int) -> np.ndarray:
    """Index of the topmost leaf at each sample: int32 (side, side); 0 is the background."""
    canvas = Image.new("I", (side, side), 0)
    draw = ImageDraw.Draw(canvas)
    for leaf in np.flatnonzero(inside).tolist():
        draw.polygon(corners[leaf].tolist(), fill=leaf + 1)
    return np.asarray(canvas)


def _shade(leaf: np.ndarray, look: dict[str, np.ndarray], tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours every sample by its leaf and averages the samples of each pixel: uint8 (size, size, 3)."""
    ramp, wave, offset = look["ramp"][leaf], look["wave"][leaf], look["offset"][leaf]
    light = ramp[..., 0] * (x - 0.5) + ramp[..., 1] * (y - 0.5)
    light += look["stripes"][leaf] * np.sin(wave[..., 0] * x + wave[..., 1] * y)
    # Positions in the tile are relative to the image's side, so that roughness looks the same at every size.
    row, column = (y * ROUGHNESS_SPAN).astype(np.int64), (x * ROUGHNESS_SPAN).astype(np.int64)
    light += (
        look["rough"][leaf] * tile.ravel()[((row + offset[..., 1]) % TILE) * TILE + (column + offset[..., 0]) % TILE]
    )
    samples = look["colour"][leaf]
    samples += light[..., None]
    np.clip(samples, 0.0, 1.0, out=samples)
    # Sums of strided views are several times as fast as a mean over two short axes.
    rows = sum(samples[start::SUPERSAMPLING] for start in range(SUPERSAMPLING))
    pixels = sum(rows[:, start::SUPERSAMPLING] for start in range(SUPERSAMPLING))
    return (pixels * (255.0 / SUPERSAMPLING**2) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _rough_tile(seed: int) -> np.ndarray:
    """Periodic noise with amplitude spectrum 1/f, mean 0 and standard deviation 1: float32 (TILE, TILE)."""
    white = normal(fold(seed, "rough")[None], (TILE, TILE))[0]
    frequency = torch.fft.fftfreq(TILE)
    distance = (frequency[:, None].square() + frequency[None].square()).sqrt().clamp(min=1 / TILE)
    rough = torch.fft.ifft2(torch.fft.fft2(white) / distance).real
    return ((rough - rough.mean()) / rough.std()).numpy()
