"""Tiled restoration against the untiled one, where the two must agree exactly, and its seams where they need not."""

import pytest
import torch
from helpers import blank_context
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone import Context
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.sampler import Euler
from restoration.tiling import restore_tiled, tiled_field, windows


class Pointwise(Restorer):
    """A flow whose velocity at a pixel is a function of that pixel alone: tiling must change nothing."""

    stride = 8  # type: ignore[assignment]

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.sampler = Euler(nfe=4)
        self.encoded = 0

    def encode(self, degraded: Tensor, start: tuple[Tensor, Tensor] | None = None) -> Context:
        self.encoded += len(degraded)
        return blank_context(self.to_model(degraded), start)

    def field(self, context: Context):
        y = context.degraded

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            assert x_t.shape == y.shape and t.shape == (len(x_t),)
            return torch.sin(3 * x_t) * (1 + t[:, None, None, None]) + y - x_t

        return velocity


class Averaging(Pointwise):
    """A velocity that depends on the tile's own mean: neighbours disagree as much as they can."""

    def field(self, context: Context):
        level = (context.degraded.mean(dim=(1, 2, 3), keepdim=True) + 1) / 2
        return lambda x_t, t: level.expand_as(x_t)


@pytest.mark.parametrize(
    "height, width, tile, overlap",
    [(64, 64, 32, 8), (72, 200, 64, 16), (40, 8, 16, 8), (64, 64, 64, 16), (16, 96, 32, 16), (48, 48, 16, 0)],
)
def test_windows_cover_and_sum_to_one(height: int, width: int, tile: int, overlap: int):
    places, weights = windows(height, width, tile, overlap, stride=8)
    total = torch.zeros(height, width)
    for (rows, columns), weight in zip(places, weights, strict=True):
        assert rows.start % 8 == 0 and columns.start % 8 == 0
        assert 0 <= rows.start and rows.stop <= height and 0 <= columns.start and columns.stop <= width
        assert (weight > 0).all()
        total[rows, columns] += weight
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    starts = sorted({columns.start for _, columns in places})
    assert all(second - first <= tile - overlap for first, second in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize("tile, overlap", [(32, 24), (32, -8), (0, 0), (30, 8)])
def test_windows_refuse_impossible_sizes(tile: int, overlap: int):
    with pytest.raises(ValueError):
        windows(64, 64, tile, overlap, stride=8)


@pytest.mark.parametrize("height, width, batch_size", [(100, 61, 8), (33, 130, 1), (7, 90, 3), (64, 64, 2)])
def test_tiled_equals_untiled_for_a_pointwise_field(height: int, width: int, batch_size: int):
    generator = torch.Generator().manual_seed(0)
    degraded = torch.rand(2, 3, height, width, generator=generator)
    keys = fold(0, "sampling", 0, torch.arange(2))
    restorer = Pointwise()
    tiled = restore_tiled(restorer, degraded, keys, nfe=3, tile=32, overlap=16, batch_size=batch_size)
    assert tiled.shape == degraded.shape
    torch.testing.assert_close(tiled, restorer.restore(degraded, keys, nfe=3), atol=1e-6, rtol=0)


def test_each_tile_is_encoded_once_and_a_large_picture_gives_the_same_result():
    degraded = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    x_t, t = torch.zeros_like(degraded), torch.tensor([0.25])
    places, _ = windows(64, 96, 32, 8, stride=8)
    restorer = Pointwise()
    velocity, mean, deviation, scale = tiled_field(restorer, degraded, 32, 8)
    torch.testing.assert_close(mean, restorer.to_model(degraded))
    torch.testing.assert_close(deviation, torch.full_like(degraded[:, :1], 0.5))
    torch.testing.assert_close(scale, torch.ones_like(deviation))
    once = [velocity(x_t, t) for _ in range(3)]
    assert restorer.encoded == len(places)
    again = tiled_field(restorer, degraded, 32, 8, kept=0)[0](x_t, t)
    assert torch.equal(once[0], again) and torch.equal(once[0], once[2])


def test_blending_leaves_no_seam():
    """A black and a white half: tiles see levels 0, 1 and between; the blend goes over smoothly."""
    degraded = F.pad(torch.zeros(1, 3, 64, 64), (0, 64), value=1.0)
    x_t, t = torch.zeros_like(degraded), torch.zeros(1)
    blended = tiled_field(Averaging(), degraded, 64, 32)[0](x_t, t)[0, 0, 0]
    hard = tiled_field(Averaging(), degraded, 64, 0)[0](x_t, t)[0, 0, 0]
    # A raised cosine of 32 pixels rises by at most pi/64 a pixel times the levels' difference, here 1/2.
    assert blended.diff().abs().max() < 1.05 * torch.pi / 64 / 2
    assert hard.diff().abs().max() == 1
