"""What the blind estimator computes without weights: a smooth filling, and statistics of the known region."""

import pytest
import torch

from restoration.estimator import known_statistics
from restoration.estimator.fill import fill
from restoration.metrics.classical import diffusion_fill


def rectangle(size: tuple[int, int], rows: slice, columns: slice) -> torch.Tensor:
    known = torch.ones(1, 1, *size)
    known[..., rows, columns] = 0
    return known


def test_a_filling_leaves_the_known_pixels_as_they_are():
    images, known = torch.randn(1, 3, 32, 32), rectangle((32, 32), slice(4, 20), slice(8, 30))
    filled = fill(images, known)
    assert torch.equal(filled[known.bool().expand_as(filled)], images[known.bool().expand_as(filled)])
    assert torch.equal(fill(images, torch.ones_like(known)), images)


def test_unknown_pixels_have_no_influence():
    images, known = torch.randn(2, 3, 24, 40), rectangle((24, 40), slice(3, 15), slice(10, 29)).expand(2, -1, -1, -1)
    other = torch.where(known.bool(), images, torch.full_like(images, -7))
    torch.testing.assert_close(fill(images, known), fill(other, known), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (48, 32), (17, 23)])
def test_a_constant_is_filled_with_itself(size):
    images = torch.tensor([0.3, -0.8, 1.0]).view(1, 3, 1, 1).expand(1, 3, *size)
    for rows, columns in ((slice(2, 9), slice(0, 12)), (slice(0, None), slice(1, None))):
        torch.testing.assert_close(fill(images, rectangle(size, rows, columns)), images, atol=1e-5, rtol=0)


def test_a_filling_stays_within_the_known_values():
    images, known = torch.rand(3, 3, 32, 32), (torch.rand(3, 1, 32, 32) > 0.8).float()
    filled = fill(images, known)
    assert filled.min() >= 0 and filled.max() <= 1


def test_a_filling_is_close_to_the_harmonic_one():
    """The classical filling solves Laplace's equation exactly; pull-push comes within a few hundredths."""
    x = torch.linspace(0, 3, 64)
    images = (0.5 + 0.4 * torch.sin(x) * torch.cos(1.7 * x[:, None] + 0.4)).expand(1, 3, 64, 64).contiguous()
    known = rectangle((64, 64), slice(20, 44), slice(12, 40))
    exact = diffusion_fill(images, ~known.bool())
    hole = ~known.bool().expand_as(images)
    assert (fill(images, known) - exact)[hole].abs().mean() < 0.04
    # The relaxations bring it closer.
    assert (fill(images, known, 0) - exact)[hole].square().mean() > (fill(images, known) - exact)[hole].square().mean()


def test_an_image_without_known_pixels_gives_finite_values():
    assert fill(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_a_filling_is_float32_under_autocast():
    images, known = torch.rand(1, 3, 16, 16), rectangle((16, 16), slice(3, 9), slice(3, 9))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fill(images, known), fill(images, known).float())
        mixed = fill(images, known)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, fill(images, known))


def test_images_of_a_batch_are_filled_separately():
    images, known = torch.randn(4, 3, 17, 24), (torch.rand(4, 1, 17, 24) > 0.6).float()
    known[3] = 1
    together = fill(images, known)
    for row in range(4):
        alone = fill(images[row : row + 1], known[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=0)


def test_a_filling_has_no_gradient():
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    assert not fill(images, rectangle((16, 16), slice(3, 9), slice(3, 9))).requires_grad


@pytest.mark.parametrize("soft", [False, True], ids=["mask", "probability"])
def test_the_statistics_of_the_known_region_equal_a_loop_over_images(soft):
    """Mean and log energy of each feature, weighted by how much of its 2 × 2 pixels is known."""
    features = torch.randn(4, 5, 8, 6)
    hole = torch.rand(4, 1, 16, 12) if soft else (torch.rand(4, 1, 16, 12) > 0.5).float()
    hole[1] = 0
    hole[2, :, :, :4] = 1
    statistics = known_statistics(features, hole)
    assert statistics.shape == (4, 10) and statistics.dtype == torch.float32
    for row in range(4):
        weight = torch.tensor([
            [1 - hole[row, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean().item() for x in range(6)] for y in range(8)
        ]).double()  # fmt: skip
        for channel in range(5):
            value = features[row, channel].double()
            mean = (weight * value).sum() / weight.sum()
            energy = (weight * value**2).sum() / weight.sum()
            torch.testing.assert_close(statistics[row, channel].double(), mean, atol=1e-5, rtol=1e-5)
            expected = (energy + 1e-4).log()
            torch.testing.assert_close(statistics[row, 5 + channel].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("halvings", [0, 2])
def test_the_statistics_at_other_resolutions_are_weighted_by_what_is_known(halvings: int):
    side = 16 >> halvings
    features, hole = torch.randn(2, 3, side, side), (torch.rand(2, 1, 16, 16) > 0.5).float()
    cell = 1 << halvings
    weight = 1 - hole.view(2, 1, side, cell, side, cell).mean(dim=(3, 5))
    mean = (weight * features).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
    torch.testing.assert_close(known_statistics(features, hole, halvings)[:, :3], mean)


def test_the_statistics_of_an_image_without_known_pixels_are_finite():
    assert known_statistics(torch.randn(1, 5, 8, 8), torch.ones(1, 1, 16, 16)).isfinite().all()


def test_the_statistics_are_computed_in_float32():
    features, hole = torch.randn(2, 5, 8, 8).bfloat16(), torch.zeros(2, 1, 16, 16)
    torch.testing.assert_close(known_statistics(features, hole), known_statistics(features.float(), hole))
