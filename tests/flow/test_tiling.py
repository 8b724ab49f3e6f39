"""Tiled restoration: equal to the untiled one where it must be, and without seams where it differs."""

import pytest
import torch
from helpers import Plain
from torch import Tensor
from torch.nn import functional as F

from restoration.backbone import Backbone
from restoration.errors import UserError
from restoration.estimator import Blind, Estimate
from restoration.flow import CleanPrediction, Degraded, InitialEstimate, VelocityPrediction
from restoration.flow.tiling import TiledField, Tiles, windows
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.sampler import Euler


class Pointwise(Backbone):
    """An output that depends at each pixel on that pixel alone: tiling must change nothing."""

    stride = 8
    two_times = True

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode(self, degraded: Tensor, estimate: Estimate) -> tuple[Tensor, Tensor]:
        self.encoded += len(degraded)
        return degraded, estimate.hole

    def forward(self, x_in: Tensor, t: Tensor, features: tuple[Tensor, Tensor], r=None, noise=None) -> Tensor:
        y, hole = features
        assert x_in.shape == y.shape and t.shape == (len(x_in),)
        time = (t + (0 if r is None else 3 * r))[:, None, None, None]
        entered = 0 if r is None else (r - t)[:, None, None, None] * noise
        return 0.3 * torch.sin(2 * x_in + entered) * (1 + time) + 0.5 * y + hole


class Averaging(Pointwise):
    """An output that depends on the tile's own mean: neighbours disagree as much as they can."""

    def forward(self, x_in: Tensor, t: Tensor, features: tuple[Tensor, Tensor], r=None, noise=None) -> Tensor:
        level = (features[0].mean(dim=(1, 2, 3), keepdim=True) + 1) / 2
        return level.expand_as(x_in)


def pointwise(prediction: type = CleanPrediction) -> Restorer:
    return Restorer(Pointwise(), Degraded(0.5), Euler(nfe=4), prediction)


def tiled_field(restorer: Restorer, degraded: Tensor, size: int, overlap: int, mask=None, **options) -> TiledField:
    batch_size = options.pop("batch_size", 8)
    return TiledField(restorer.field, degraded, mask, Tiles(size, overlap, batch_size), restorer.stride, **options)


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
    with pytest.raises(ValueError, match="must"):
        windows(64, 64, tile, overlap, stride=8)


def test_tiles_refuse_an_overlap_above_half_a_tile():
    with pytest.raises(UserError, match="overlap=24 must be at most half of tile=32"):
        Tiles(32, 24)


@pytest.mark.parametrize("height, width, batch_size", [(100, 61, 8), (33, 130, 1), (7, 90, 3), (64, 64, 2)])
def test_tiled_equals_untiled_for_a_pointwise_network(height: int, width: int, batch_size: int):
    degraded, keys = torch.rand(2, 3, height, width), fold(0, "sampling", 0, torch.arange(2))
    restorer = pointwise()
    tiled = restorer.restore(degraded, keys, nfe=3, tiles=Tiles(32, 16, batch_size)).images
    assert tiled.shape == degraded.shape
    torch.testing.assert_close(tiled, restorer.restore(degraded, keys, nfe=3).images, atol=1e-6, rtol=0)
    encoded = restorer.backbone.encoded
    restorer.restore(degraded, keys, nfe=3)
    assert restorer.backbone.encoded == encoded + 2, "restoring without tiles is one pass"


@pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])
def test_every_form_of_the_field_is_blended(prediction):
    """Velocity, clean image and displacement of an interval, against those of the field of the whole image."""
    restorer, degraded = pointwise(prediction), torch.rand(2, 3, 64, 96)
    whole, tiled = restorer.field(degraded), tiled_field(restorer, degraded, 32, 8)
    keys, t, r = torch.arange(2), torch.tensor([0.2, 0.7]), torch.tensor([0.6, 0.9])
    x_t = whole.start(keys)
    torch.testing.assert_close(tiled.start(keys), x_t)
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(tiled.velocity(x_t, t), whole.velocity(x_t, t), **close)
    torch.testing.assert_close(tiled.velocity(x_t, t, r), whole.velocity(x_t, t, r), **close)
    torch.testing.assert_close(tiled.clean(x_t, t), whole.clean(x_t, t), **close)
    torch.testing.assert_close(tiled.displacement(x_t, t, r), whole.displacement(x_t, t, r), **close)
    assert (whole.velocity(x_t, t, r) - whole.velocity(x_t, t)).abs().max() > 0.1


@pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])
def test_one_tile_that_covers_the_image_is_the_field_itself(prediction):
    """A network with a receptive field, and an estimator: no border is drawn through the image."""
    restorer = Restorer(Plain(), InitialEstimate(0.5), Euler(), prediction, Blind(16)).eval()
    degraded, t = torch.rand(2, 3, 40, 56), torch.tensor([0.2, 0.7])
    with torch.no_grad():
        whole, tiled = restorer.field(degraded), tiled_field(restorer, degraded, 64, 16)
        x_t = whole.start(torch.arange(2))
        for name in ("mean", "sigma", "residual_std"):
            torch.testing.assert_close(getattr(tiled, name), getattr(whole, name))
        torch.testing.assert_close(tiled.start(torch.arange(2)), x_t)
        torch.testing.assert_close(tiled.velocity(x_t, t), whole.velocity(x_t, t))
        torch.testing.assert_close(tiled.clean(x_t, t), whole.clean(x_t, t))


def test_each_tile_is_encoded_once_and_a_large_image_gives_the_same_result():
    degraded = torch.rand(1, 3, 64, 96)
    x_t, t = torch.randn_like(degraded), torch.tensor([0.25])
    places, _ = windows(64, 96, 32, 8, stride=8)
    restorer = pointwise()
    field = tiled_field(restorer, degraded, 32, 8)
    torch.testing.assert_close(field.mean, 2 * degraded - 1)
    torch.testing.assert_close(field.sigma, torch.full_like(degraded[:, :1], 0.5))
    torch.testing.assert_close(field.residual_std, torch.ones_like(field.sigma))
    kept = [(field.velocity(x_t, t), field.clean(x_t, t)) for _ in range(3)]
    assert restorer.backbone.encoded == len(places)
    again = tiled_field(restorer, degraded, 32, 8, kept=0)
    fresh = again.velocity(x_t, t), again.clean(x_t, t)
    # Once for the start, once for each evaluation.
    assert restorer.backbone.encoded == 4 * len(places)
    for velocity, clean in (*kept[1:], fresh):
        assert torch.equal(velocity, kept[0][0]) and torch.equal(clean, kept[0][1])


class CountingSource(Degraded):
    """Counts the images whose mean it computes."""

    images = 0

    def mean(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        self.images += len(degraded)
        return super().mean(degraded, estimate)


@pytest.mark.parametrize("kept", [0, 64])
def test_the_source_is_evaluated_once_per_tile(kept):
    """A posterior mean costs a pass of another network."""
    restorer = Restorer(Pointwise(), CountingSource(0.5), Euler())
    degraded = torch.rand(1, 3, 64, 96)
    field = tiled_field(restorer, degraded, 32, 8, kept=kept)
    for _ in range(3):
        field.clean(torch.randn_like(degraded), torch.zeros(1))
    assert restorer.source.images == len(windows(64, 96, 32, 8, stride=8)[0])


@pytest.mark.parametrize("kept", [0, 64])
def test_the_mask_is_cropped_along(kept):
    restorer, degraded = pointwise(), torch.rand(2, 3, 64, 96)
    mask = torch.rand(2, 1, 64, 96) > 0.5
    x_t, t = torch.randn_like(degraded), torch.tensor([0.25, 0.5])
    whole = restorer.field(degraded, mask)
    tiled = tiled_field(restorer, degraded, 32, 8, mask, kept=kept, batch_size=3)
    torch.testing.assert_close(tiled.clean(x_t, t), whole.clean(x_t, t), atol=2e-6, rtol=1e-5)
    assert (whole.clean(x_t, t) - restorer.field(degraded).clean(x_t, t)).abs().max() > 0.5


def test_a_mask_is_padded_and_cropped_with_the_image():
    restorer, degraded, keys = pointwise(), torch.rand(1, 3, 61, 90), torch.arange(1)
    mask = torch.rand(1, 1, 61, 90) > 0.5
    tiled = restorer.restore(degraded, keys, mask=mask, tiles=Tiles(32, 8)).images
    torch.testing.assert_close(tiled, restorer.restore(degraded, keys, mask=mask).images, atol=1e-6, rtol=0)
    assert not torch.equal(restorer.restore(degraded, keys, mask=mask).images, restorer.restore(degraded, keys).images)


def test_blending_leaves_no_seam():
    """A black and a white half: tiles have levels 0, 1 and between; the blend changes smoothly."""
    degraded = F.pad(torch.zeros(1, 3, 64, 64), (0, 64), value=1.0)
    x_t, t = torch.zeros_like(degraded), torch.zeros(1)
    restorer = Restorer(Averaging(), Degraded(0.5), Euler(), VelocityPrediction)
    blended, hard = (tiled_field(restorer, degraded, 64, overlap).velocity(x_t, t)[0, 0, 0] for overlap in (32, 0))
    # A raised cosine of 32 pixels rises by at most pi/64 a pixel times the levels' difference, here 1/2.
    assert blended.diff().abs().max() < 1.05 * torch.pi / 64 / 2
    assert hard.diff().abs().max() == 1
