"""One field over an image too large for a single pass.

Overlapping tiles share the image's noise, and their fields are blended with a smooth window at every evaluation
(MultiDiffusion, Bar-Tal et al. 2023, arXiv:2302.08113, applied to a flow). All tiles follow one trajectory of one
image, so nothing disagrees at their borders, as it does where finished tiles are blended.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

from restoration.errors import UserError
from restoration.flow.field import ConditionalField, Field
from restoration.keyed import normal

# Features (26 MB per 256-pixel tile with the default backbone) are kept for up to this many tiles. A larger image
# encodes again at each evaluation, so that memory does not grow with the image.
KEPT_TILES = 64

# Rows of a large image that pixelwise operations take at a time.
ROWS = 256

# make(degraded, mask, (mean, sigma) or None) → field, as `Restorer.field`.
MakeField = Callable[[Tensor, Tensor | None, tuple[Tensor, Tensor] | None], ConditionalField]


def by_rows(function: Callable[..., Tensor], *images: Tensor, out: Tensor | None = None) -> Tensor:
    """`function(*images)` of pixelwise operations on (B, C, H, W), whose temporary results never have the whole size.

    `out` may be overwritten with the result.
    """
    height = images[0].shape[-2]
    if height <= ROWS:
        return function(*images)
    out = torch.empty_like(images[0]) if out is None else out
    for rows in (slice(top, top + ROWS) for top in range(0, height, ROWS)):
        out[..., rows, :] = function(*(image[..., rows, :] for image in images))
    return out


def pad(images: Tensor, stride: int) -> Tensor:
    """The last row and column of (B, C, H, W) are repeated up to multiples of the stride. Any dtype."""
    for axis in (-2, -1):
        size = images.shape[axis]
        places = torch.arange(size + -size % stride, device=images.device).clamp(max=size - 1)
        images = images.index_select(axis, places)
    return images


@dataclass(frozen=True)
class Tiles:
    """How large images are split.

    Args:
        size: side of a tile, pixels. 256 is large enough to show what it depicts and small enough for laptops.
        overlap: pixels shared by neighbours, at most half a tile.
        batch_size: tiles in one pass of the network.

    Raises:
        UserError: an overlap above half a tile.
    """

    size: int = 256
    overlap: int = 64
    batch_size: int = 8

    def __post_init__(self) -> None:
        if 2 * self.overlap > self.size:
            raise UserError(f"overlap={self.overlap} must be at most half of tile={self.size}")


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
    """A plateau of 1 with raised-cosine slopes over the overlap, positive everywhere."""
    window = torch.ones(tile)
    if overlap:
        slope = torch.sin((torch.arange(overlap) + 0.5) / overlap * math.pi / 2) ** 2
        window[:overlap] = slope
        window[tile - overlap :] = torch.minimum(window[tile - overlap :], slope.flip(0))
    return window


def windows(
    height: int, width: int, tile: int, overlap: int, stride: int = 1
) -> tuple[list[tuple[slice, slice]], list[Tensor]]:
    """Tiles that cover an image, and their weights.

    Args:
        height, width: of the image in pixels, multiples of `stride`.
        tile: side of a tile in pixels, a multiple of `stride`; a shorter side of the image is taken whole.
        overlap: pixels that neighbours share at least, a multiple of `stride`, at most half a tile.
        stride: the backbone's total downsampling.

    Returns:
        N pairs of slices (rows, columns), and N float32 weights (tile_h, tile_w) in (0, 1] that sum to 1 at every
        pixel. Tiles whose neighbours lie alike share one tensor, so the weights take little memory.

    Raises:
        ValueError: a size is not a multiple of the stride, or the overlap is above half a tile.
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
    near_rows = [tuple(other - y for other in rows if abs(other - y) < tile_h) for y in rows]
    near_columns = [tuple(other - x for other in columns if abs(other - x) < tile_w) for x in columns]
    # A side taken whole has no neighbour to blend with, and its ramp cancels in the division.
    window = _ramp(tile_h, min(overlap, tile_h // 2))[:, None] * _ramp(tile_w, min(overlap, tile_w // 2))

    @cache
    def weight(down: tuple[int, ...], right: tuple[int, ...]) -> Tensor:
        total = torch.zeros_like(window)
        for y, x in product(down, right):
            part = window[_overlap(-y, tile_h), _overlap(-x, tile_w)]
            total[_overlap(y, tile_h), _overlap(x, tile_w)] += part
        return window / total

    places = [(slice(y, y + tile_h), slice(x, x + tile_w)) for y in rows for x in columns]
    return places, [weight(down, right) for down in near_rows for right in near_columns]


def _overlap(offset: int, size: int) -> slice:
    """The part of a tile that another one covers, which begins `offset` pixels after it."""
    return slice(max(0, offset), size + min(0, offset))


def _crops(images: Tensor, places: Sequence[tuple[slice, slice]]) -> Tensor:
    """(B, C, H, W) -> (tiles * B, C, tile_h, tile_w), tile by tile."""
    return torch.cat([images[..., rows, columns] for rows, columns in places])


class TiledField(Field):
    """A restorer's field, evaluated in tiles and blended.

    Args:
        make: gives the field of a batch of tiles.
        degraded: (B, 3, H, W), as `make` takes it; H and W are multiples of the stride.
        mask: (B, 1, H, W), as `make` takes it, or None.
        tiles: how to split; size and overlap are rounded up to the stride, the size to twice the overlap.
        stride: of the backbone.
        progress: called after each batch of tiles, with the passes over the image so far; the first makes the start.
        kept: features are kept for up to this many tiles (times B), otherwise computed at each evaluation.

    Attributes:
        mean, sigma, residual_std: of x_0 and the estimate, (B, 3 or 1, H, W), blended like the field.
    """

    def __init__(
        self,
        make: MakeField,
        degraded: Tensor,
        mask: Tensor | None = None,
        tiles: Tiles | None = None,
        stride: int = 1,
        progress: Callable[[float], None] | None = None,
        kept: int = KEPT_TILES,
    ) -> None:
        tiles = tiles or Tiles()
        overlap = tiles.overlap + -tiles.overlap % stride
        size = max(tiles.size + -tiles.size % stride, 2 * overlap)
        self._make, self._degraded, self._mask = make, degraded, mask
        self._places, weights = windows(degraded.shape[-2], degraded.shape[-1], size, overlap, stride)
        self._weights = [weight.to(degraded.device) for weight in weights]
        per_pass = max(1, tiles.batch_size // len(degraded))
        self._chunks = [slice(first, first + per_pass) for first in range(0, len(self._places), per_pass)]
        self._progress, self._done = progress, 0

        first: list[ConditionalField] = []
        keep = len(self._places) * len(degraded) <= kept

        def start(number: int) -> Tensor:
            field = self._field(number)
            if keep:
                first.append(field)
            return torch.cat([field.mean, field.sigma, field.residual_std, field.estimate.hole], dim=1)

        self.mean, self.sigma, self.residual_std, self.hole = self._blend(start, 6).split([3, 1, 1, 1], dim=1)
        self._kept = [replace(field, **self._start(number)) for number, field in enumerate(first)]

    def start(self, keys: Tensor) -> Tensor:
        """x_0 of the whole image, as `ConditionalField.start`."""
        noise = normal(keys.to(self.mean.device), tuple(self.mean.shape[1:]))
        return noise.mul_(self.sigma).add_(self.mean)

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return self._evaluate(lambda field, x, *when: field.velocity(x, *when), x_t, t, r)

    def clean(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._evaluate(lambda field, x, *when: field.clean(x, *when), x_t, t)

    def _evaluate(self, what: Callable[..., Tensor], x_t: Tensor, *when: Tensor | None) -> Tensor:
        def part(number: int) -> Tensor:
            count = len(self._places[self._chunks[number]])
            field = self._kept[number] if self._kept else self._field(number, **self._start(number))
            return what(field, self._crop(x_t, number), *(t if t is None else t.repeat(count) for t in when))

        return self._blend(part)

    def _crop(self, images: Tensor, number: int) -> Tensor:
        return _crops(images, self._places[self._chunks[number]])

    def _start(self, number: int) -> dict[str, Any]:
        return {"mean": self._crop(self.mean, number), "sigma": self._crop(self.sigma, number)}

    def _field(self, number: int, mean: Tensor | None = None, sigma: Tensor | None = None) -> ConditionalField:
        mask = None if self._mask is None else self._crop(self._mask, number)
        start = None if mean is None or sigma is None else (mean, sigma)
        return self._make(self._crop(self._degraded, number), mask, start)

    def _blend(self, parts: Callable[[int], Tensor], channels: int = 3) -> Tensor:
        images, _, height, width = self._degraded.shape
        blended = self._degraded.new_zeros(images, channels, height, width, dtype=torch.float32)
        for number, chunk in enumerate(self._chunks):
            here = self._places[chunk]
            tiles = parts(number).to(blended.dtype).unflatten(0, (len(here), images))
            for (rows, columns), tile, weight in zip(here, tiles, self._weights[chunk], strict=True):
                blended[..., rows, columns] += tile * weight
            self._done += 1
            if self._progress is not None:
                self._progress(self._done / len(self._chunks))
        return blended
