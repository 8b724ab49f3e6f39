"""One velocity field over an image too large for a single pass.

Overlapping tiles share the image's noise, and their *velocities* are blended with a smooth window at every evaluation
(MultiDiffusion, Bar-Tal et al. 2023, arXiv:2302.08113, for a flow). All tiles therefore walk one trajectory of one
image: there is nothing left to disagree about at the borders, as there is when finished tiles are blended.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.restorer import Restorer
from restoration.sampler import Velocity

__all__ = ["restore_tiled", "tiled_field", "windows"]

# Contexts (encoder features at every scale, 26 MB a 256-pixel tile with the default backbone) are kept up to
# this many tiles; a larger picture re-encodes at each evaluation, so that memory does not grow with the picture.
KEPT_TILES = 64


def _starts(length: int, tile: int, overlap: int, stride: int) -> list[int]:
    """First pixels of tiles that cover `length`, evenly spread, on multiples of the stride.

    Multiples, because an encoder that downsamples is not shift-invariant: tiles in phase agree better.
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / (tile - overlap)) + 1
    steps = (length - tile) // stride
    return [i * steps // (count - 1) * stride for i in range(count)]


def _ramp(tile: int, overlap: int) -> Tensor:
    """A plateau of 1 with raised-cosine slopes over the overlap, above 0 everywhere."""
    window = torch.ones(tile)
    if overlap:
        slope = torch.sin((torch.arange(overlap) + 0.5) / overlap * math.pi / 2) ** 2
        window[:overlap] = slope
        window[tile - overlap :] = torch.minimum(window[tile - overlap :], slope.flip(0))
    return window


def windows(
    height: int, width: int, tile: int, overlap: int, stride: int = 1
) -> tuple[list[tuple[slice, slice]], Tensor]:
    """Tiles that cover an image, and how much each counts where.

    Args:
        height, width: the image in pixels, multiples of `stride`.
        tile: side of a tile in pixels, a multiple of `stride`; a shorter side of the image is taken whole.
        overlap: pixels that neighbours share at least, a multiple of `stride`, at most half a tile.
        stride: the backbone's total downsampling.

    Returns:
        N pairs of slices (rows, columns), and float32 weights (N, tile_h, tile_w) in (0, 1] whose sum over the tiles
        is 1 at every pixel.

    Raises:
        ValueError: a size is not a multiple of the stride, or the overlap is over half a tile.
    """
    if any(size % stride for size in (height, width, tile, overlap)):
        raise ValueError(
            f"image {height}x{width}, tile {tile} and overlap {overlap} must be multiples of the stride {stride}"
        )
    if tile < 1 or not 0 <= 2 * overlap <= tile:
        raise ValueError(f"overlap {overlap} must lie between 0 and half the tile {tile}")
    tile_h, tile_w = min(tile, height), min(tile, width)
    rows = _starts(height, tile_h, overlap, stride)
    columns = _starts(width, tile_w, overlap, stride)
    places = [(slice(y, y + tile_h), slice(x, x + tile_w)) for y in rows for x in columns]
    # A side taken whole has no neighbour to blend with, and its ramp cancels in the division.
    window = _ramp(tile_h, min(overlap, tile_h // 2))[:, None] * _ramp(tile_w, min(overlap, tile_w // 2))
    total = torch.zeros(height, width)
    for place in places:
        total[place] += window
    return places, torch.stack([window / total[place] for place in places])


def _crops(images: Tensor, places: Sequence[tuple[slice, slice]]) -> Tensor:
    """(B, C, H, W) -> (tiles * B, C, tile_h, tile_w), tile by tile."""
    return torch.cat([images[..., rows, columns] for rows, columns in places])


def tiled_field(
    restorer: Restorer,
    degraded: Tensor,
    tile: int = 256,
    overlap: int = 64,
    batch_size: int = 8,
    kept: int = KEPT_TILES,
) -> tuple[Velocity, Tensor, Tensor, Tensor]:
    """The restorer's velocity field, evaluated in tiles, and where it starts.

    Args:
        restorer: gives `encode`, `field` and `stride`.
        degraded: float32 (B, 3, H, W) in [0, 1]; H and W are multiples of the stride.
        tile, overlap: in pixels, see `windows`.
        batch_size: tiles in one pass of the network.
        kept: encode each tile once and keep its context up to this many tiles (times B), else once per evaluation.

    Returns:
        velocity(x_t, t) with x_t (B, 3, H, W) in the flow's space and t (B,), as `restorer.field` gives it, and mean
        (B, 3, H, W) and deviation (B, 1, H, W) of x_0 and the contexts' scale (B, 1, H, W), blended like the velocity.

    Raises:
        ValueError: see `windows`.
    """
    images, _, height, width = degraded.shape
    places, weights = windows(height, width, tile, overlap, restorer.stride)
    weights = weights.to(degraded.device)[:, None, None]
    per_pass = max(1, batch_size // images)
    chunks = [slice(first, first + per_pass) for first in range(0, len(places), per_pass)]
    keep = len(places) * images <= kept

    def blend(parts: Callable[[int], Tensor], channels: int = 3) -> Tensor:
        blended = degraded.new_zeros(images, channels, height, width)
        for number, chunk in enumerate(chunks):
            here = places[chunk]
            weighted = parts(number).to(degraded.dtype).unflatten(0, (len(here), images)) * weights[chunk]
            for (rows, columns), part in zip(here, weighted, strict=True):
                blended[..., rows, columns] += part
        return blended

    def crop(image: Tensor, number: int) -> Tensor:
        return _crops(image, places[chunks[number]])

    contexts = [restorer.encode(crop(degraded, number)) for number in range(len(chunks))] if keep else []

    def start(number: int) -> Tensor:
        context = contexts[number] if keep else restorer.encode(crop(degraded, number))
        return torch.cat([context.mean, context.deviation, context.scale], dim=1)

    mean, deviation, scale = blend(start, channels=5).split([3, 1, 1], dim=1)

    def field(number: int) -> Velocity:
        here = crop(mean, number), crop(deviation, number)
        if keep:
            return restorer.field(replace(contexts[number], mean=here[0], deviation=here[1]))
        return restorer.field(restorer.encode(crop(degraded, number), here))

    fields = [field(number) for number in range(len(chunks))] if keep else []

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        def part(number: int) -> Tensor:
            here = fields[number] if keep else field(number)
            return here(crop(x_t, number), t.repeat(len(places[chunks[number]])))

        return blend(part)

    return velocity, mean, deviation, scale


@torch.no_grad()
def restore_tiled(
    restorer: Restorer,
    degraded: Tensor,
    keys: Tensor,
    nfe: int | None = None,
    tile: int = 256,
    overlap: int = 64,
    batch_size: int = 8,
) -> Tensor:
    """`restorer.restore` in tiles: the same noise and solver for the whole image, the velocity from `tiled_field`.

    Args:
        degraded: float32 (B, 3, H, W) in [0, 1], any H and W.
        keys: int64 (B,), one per image; the noise of the whole image is drawn from it.
        nfe: passes through the flow network for every tile; None is the sampler's own.
        tile, overlap, batch_size: see `tiled_field`; tile and overlap are rounded up to the stride, the tile to twice
            the overlap.

    Returns:
        float32 (B, 3, H, W) in [0, 1].
    """
    height, width = degraded.shape[-2:]
    stride = restorer.stride
    padded = F.pad(degraded, (0, -width % stride, 0, -height % stride), mode="replicate")
    overlap += -overlap % stride
    tile = max(tile + -tile % stride, 2 * overlap)
    velocity, mean, deviation, scale = tiled_field(restorer, padded, tile, overlap, batch_size)
    x_1 = restorer.sampler(velocity, restorer.start(mean, deviation, keys), nfe, scale)
    return restorer.to_image(x_1.float())[..., :height, :width]
