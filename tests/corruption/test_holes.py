"""Corruptions that erase pixels: rectangles, blocks, salt and pepper; and additive noise."""

import math

import pytest
import torch
from scipy import stats

from restoration.corruption import BlockMask, Erase, GaussianNoise, SaltPepper
from restoration.keyed import fold


@pytest.mark.parametrize("operator", [Erase(), BlockMask(), SaltPepper()], ids=["erase", "block_mask", "salt_pepper"])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 80)], ids=str)
def test_only_the_pixels_of_the_mask_change(operator, size):
    # No pixel of these images is black or white, so every replaced one differs.
    images = torch.rand(20, 3, *size) * 0.8 + 0.1
    degraded, mask = operator.apply(images, operator.sample(torch.linspace(0, 1, 20), torch.arange(20), size))
    assert torch.equal((degraded != images), mask.expand_as(images))
    if not isinstance(operator, SaltPepper):
        assert not degraded[mask.expand_as(images)].any()


def test_rectangles_follow_the_protocol():
    count, (rows, columns) = 3000, (64, 96)
    severity = torch.linspace(0, 1, count)
    drawn = Erase().sample(severity, fold("rectangles", torch.arange(count)), (rows, columns))
    top, left, height, width = (drawn[name] for name in ("top", "left", "height", "width"))
    assert ((top >= 0) & (top + height <= rows) & (left >= 0) & (left + width <= columns)).all()
    area = 0.3 * severity * rows * columns
    free = (height < rows) & (width < columns) & (height > 8) & (width > 8)
    assert free.float().mean() > 0.6
    # Rounding each side by half a pixel at most.
    assert ((height * width - area).abs() <= 0.5 * (height + width) + 0.25 + 1e-3)[free].all()
    aspect = (height / width)[free]
    assert aspect.min() > 0.27 and aspect.max() < 3.7
    # Positions are uniform, including the first and the last.
    place = ((top + 0.5) / (rows - height + 1))[free]
    assert stats.kstest(place.numpy(), "uniform").statistic < 0.05
    assert (top == 0)[free].any() and (top + height == rows)[free].any()


def test_aspects_are_log_uniform():
    count = 4000
    drawn = Erase(area=0.09).sample(torch.ones(count), fold("aspect", torch.arange(count)), (1000, 1000))
    log = (drawn["height"] / drawn["width"]).log()
    low, high = math.log(0.3), math.log(3.3)
    assert stats.kstest(log.numpy(), "uniform", args=(low, high - low)).pvalue > 0.005


def test_a_rectangle_longer_than_the_image_is_clipped():
    drawn = Erase(area=0.9).sample(torch.ones(500), torch.arange(500), (32, 32))
    assert drawn["height"].max() == 32 and drawn["width"].max() == 32


def test_erase_applies_the_given_rectangle():
    parameters = {name: torch.tensor([value]) for name, value in (("top", 3), ("left", 5), ("height", 4), ("width", 2))}
    _, mask = Erase().apply(torch.rand(1, 3, 16, 12), parameters)
    expected = torch.zeros(16, 12, dtype=torch.bool)
    expected[3:7, 5:7] = True
    assert torch.equal(mask[0, 0], expected)


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 80)], ids=str)
def test_block_mask_erases_its_share_of_whole_cells(size):
    severity = torch.tensor([0.0, 0.01, 0.2, 0.5, 1.0])
    operator = BlockMask()
    _, mask = operator.apply(torch.rand(5, 3, *size), operator.sample(severity, torch.arange(5), size))
    cell = (size[0] // 8, size[1] // 8)
    share = torch.nn.functional.avg_pool2d(mask.float(), cell)
    assert set(share.unique().tolist()) <= {0.0, 1.0}
    assert share.sum(dim=(1, 2, 3)).tolist() == [0, 0, 10, 24, 48]  # of 64, at a share of 0.75·u


def test_block_mask_erases_all_cells_equally_often():
    erased = BlockMask().sample(torch.ones(4000), fold("cells", torch.arange(4000)), (64, 64))["erased"].float().mean(0)
    assert (erased - 0.75).abs().max() < 4.5 * math.sqrt(0.75 * 0.25 / 4000)


def test_salt_and_pepper_are_half_each_in_all_channels():
    operator, images = SaltPepper(), torch.rand(4, 3, 200, 200) * 0.8 + 0.1
    severity = torch.tensor([0.2, 0.5, 0.8, 1.0])
    degraded, mask = operator.apply(images, operator.sample(severity, torch.arange(4), (200, 200)))
    white, black = (degraded == 1).all(1, keepdim=True), (degraded == 0).all(1, keepdim=True)
    assert torch.equal(white | black, mask)
    bound = 4.5 * 0.5 / 200
    assert ((mask.float().mean(dim=(1, 2, 3)) - severity / 2).abs() < bound).all()
    assert ((white.float().mean(dim=(1, 2, 3)) - severity / 4).abs() < bound).all()


def test_gaussian_noise_has_its_level_and_is_clipped():
    operator = GaussianNoise()
    severity = torch.tensor([0.1, 0.2])
    images = torch.full((2, 3, 100, 100), 0.5)
    degraded, mask = operator.apply(images, operator.sample(severity, torch.arange(2), (100, 100)))
    noise = degraded - 0.5
    assert (noise.mean(dim=(1, 2, 3)).abs() < 4.5 * 0.5 * severity / math.sqrt(30_000)).all()
    torch.testing.assert_close(noise.std(dim=(1, 2, 3)), 0.5 * severity, rtol=0.02, atol=0)
    assert not mask.any()
    # At σ = 0.5 a black image is clipped where the noise is negative.
    clipped, _ = operator.apply(images[:1] * 0, operator.sample(torch.ones(1), torch.arange(1), (100, 100)))
    assert clipped.min() == 0 and clipped.max() == 1
    assert abs((clipped == 0).float().mean() - 0.5) < 4.5 * 0.5 / math.sqrt(30_000)
    assert abs((clipped == 1).float().mean() - stats.norm.sf(2)) < 4.5 * 0.15 / math.sqrt(30_000)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("severity", [0.1, 0.4, 1.0])
def test_noise_has_the_expected_psnr(severity, level):
    """E[(clip(c + σz) − c)²] by integration over z, for σ = 0.5·u and constant images of level c."""
    clean = torch.full((4, 3, 64, 64), level)
    operator = GaussianNoise()
    degraded, _ = operator.apply(clean, operator.sample(torch.full((4,), severity), torch.arange(4), (64, 64)))
    sigma = 0.5 * severity
    edges = [-level / sigma, (1 - level) / sigma]  # where clipping begins
    inside = stats.norm.expect(lambda z: (sigma * z) ** 2, lb=edges[0], ub=edges[1])
    expected = inside + level**2 * stats.norm.cdf(edges[0]) + (1 - level) ** 2 * stats.norm.sf(edges[1])
    decibels = 10 * math.log10((degraded - clean).double().square().mean() / expected)
    # Of 49,152 values; the squared error has a relative standard deviation of at most 2.3.
    assert abs(decibels) < 0.15


@pytest.mark.parametrize("severity", [0.1, 0.4, 1.0])
def test_block_mask_and_salt_pepper_have_the_expected_psnr(severity):
    """Erased cells to 0 exactly; a share u/2 of pixels to 0 or 1, half each, up to sampling."""
    level, count = 0.7, 4
    clean, severities = torch.full((count, 3, 64, 64), level), torch.full((count,), severity)
    errors = []
    for operator in (BlockMask(), SaltPepper()):
        degraded, _ = operator.apply(clean, operator.sample(severities, torch.arange(count), (64, 64)))
        errors.append((degraded - clean).double().square().mean().item())
    assert errors[0] == pytest.approx(round(48 * severity) / 64 * level**2, rel=1e-6)
    share = severity / 2
    expected = share * (level**2 + (1 - level) ** 2) / 2
    deviation = math.sqrt((share * (level**4 + (1 - level) ** 4) / 2 - expected**2) / (count * 64**2))
    assert abs(errors[1] - expected) < 4.5 * deviation
