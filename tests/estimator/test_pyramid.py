"""Large holes are found at lower resolution, and only where a finer resolution agrees."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.estimator import Blind, Estimate, Estimator, large_holes
from restoration.estimator import pyramid as module
from restoration.flow.tiling import Tiles
from restoration.restorer import Restorer


class NearBorders(Estimator):
    """White pixels are a hole if another colour is within `reach` pixels: of a large hole, only its border."""

    def __init__(self, reach: int = 6) -> None:
        super().__init__()
        self.reach = reach
        self.sizes: list[tuple[int, int]] = []

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        self.sizes.append(tuple(degraded.shape[-2:]))
        white = (degraded > 0.99).all(dim=1, keepdim=True).float()
        near = -F.max_pool2d(-white, 2 * self.reach + 1, stride=1, padding=self.reach) < 0.5
        hole = white * near
        return Estimate(degraded, hole, hole)


def holed(side: int, left: int = 40, size: int = 128) -> tuple[Tensor, Tensor]:
    image, hole = torch.full((1, 3, size, size), 0.3), torch.zeros(1, 1, size, size, dtype=torch.bool)
    hole[..., 24 : 24 + side, left : left + side] = True
    return image.masked_fill(hole, 1.0), hole


def test_a_hole_larger_than_the_estimator_knows_is_found_whole():
    image, hole = holed(side=40)
    estimator = NearBorders()
    assert 0.4 < (estimator(2 * image - 1).hole * hole).sum() / hole.sum() < 0.6  # its border of 6 pixels
    found = large_holes(estimator, image)
    assert found.dtype == torch.float32 and found.shape == hole.shape
    assert (found[hole] == 1).float().mean() > 0.75
    wider = F.max_pool2d(hole.float(), 5, stride=1, padding=2) > 0  # a pixel of the level below
    assert (found[~wider] == 0).all()


def test_what_a_coarser_level_alone_takes_for_a_hole_is_none(monkeypatch: pytest.MonkeyPatch):
    image, hole = holed(side=40)
    estimator = NearBorders()
    whole = NearBorders.forward

    def only_small(self: NearBorders, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        estimate = whole(self, degraded, mask)
        if degraded.shape[-1] < 128:
            return estimate
        corner = torch.zeros_like(estimate.hole)  # here the finest level takes something else for a hole
        corner[..., -8:, -8:] = 1
        return Estimate(degraded, corner, corner)

    assert large_holes(estimator, image) is not None
    monkeypatch.setattr(NearBorders, "forward", only_small)
    found = large_holes(estimator, image)
    assert found is None or not found[hole].any()


def test_a_level_that_finds_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    """In the image in which it finds nothing, whatever it finds in others of the batch."""
    image, hole = holed(side=100, size=256)
    whole = NearBorders.forward

    def not_halved(self: NearBorders, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        found = whole(self, degraded, mask).hole.clone()
        if degraded.shape[-1] == 128:
            found[0] = 0
        return Estimate(degraded, found, found)

    monkeypatch.setattr(NearBorders, "forward", not_halved)
    for images in (image, image.expand(2, -1, -1, -1)):
        found = large_holes(NearBorders(reach=8), images)
        assert found is not None and (found[:1][hole] == 1).float().mean() > 0.5


def test_nothing_is_found_in_an_intact_or_a_small_image():
    assert large_holes(NearBorders(), torch.rand(2, 3, 128, 128) * 0.9) is None
    assert large_holes(NearBorders(), holed(side=40, size=80)[0]) is None  # half of it would be too small to judge


def test_each_image_of_a_batch_is_judged_by_itself():
    images = torch.cat([holed(40)[0], torch.full((1, 3, 128, 128), 0.3), holed(30, left=8)[0]])
    together = large_holes(NearBorders(), images)
    for image, found in zip(images, together, strict=True):
        alone = large_holes(NearBorders(), image[None])
        assert torch.equal(found, torch.zeros_like(found) if alone is None else alone[0])


def test_bytes_give_what_floats_give():
    image, _ = holed(side=40)
    assert torch.equal(
        large_holes(NearBorders(), (255 * image).round().to(torch.uint8)),
        large_holes(NearBorders(), (255 * image).round() / 255),
    )


def test_a_very_large_image_is_reduced_first(monkeypatch: pytest.MonkeyPatch):
    """To the pixel limit, by means over squares in bands of rows, also where sides are odd."""
    monkeypatch.setattr(module, "_MOST_PIXELS", 96 * 128)
    estimator = NearBorders()
    large_holes(estimator, holed(200, size=521)[0])
    assert estimator.sizes[0] == (66, 66)
    images = torch.rand(1, 3, 521, 37)
    expected = F.avg_pool2d(images, 4, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(module._smaller(images, 4), expected)


def test_the_estimator_takes_a_probability_as_the_least():
    blind = Blind(8).eval()
    image, hole = holed(side=40)
    own = blind(2 * image - 1).hole
    least = torch.rand_like(own) * hole
    assert torch.equal(blind(2 * image - 1, least).hole, torch.maximum(own, least))


def test_the_weights_in_the_package_fill_a_large_hole_of_a_large_image():
    """The hole is 11 dB better than white, and nothing else is touched."""
    y, x = torch.meshgrid(torch.arange(384.0), torch.arange(384.0), indexing="ij")
    scene = [120 + 80 * (x / 19).sin(), 110 + 60 * (y / 23).cos(), 130 + 50 * ((x + y) / 31).sin()]
    clean = torch.stack(scene).round()[None] / 255
    image = clean.clone()
    image[..., 80:200, 70:190] = 1
    restored = Restorer.load().restore(image, torch.tensor([0]), tiles=Tiles())
    before, after = (
        (images - clean)[..., 80:200, 70:190].square().mean().log10() * -10 for images in (image, restored.images)
    )
    assert after > before + 11
    outside = (restored.images - clean).square().mean(dim=1)
    outside[..., 72:208, 62:198] = 0
    assert outside.mean() < 1e-4
    assert restored.hole_share.item() == pytest.approx(120 * 120 / 384**2, rel=0.2)
