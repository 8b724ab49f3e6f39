"""The estimate of the damage, and the smooth filling that rests on it."""

import pytest
import torch

from restoration.backbone.damage import ErrorHead, HoleHead, fill
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


def test_what_is_not_known_has_no_influence():
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
    # Its relaxations are what brings it there.
    assert (fill(images, known, 0) - exact)[hole].square().mean() > (fill(images, known) - exact)[hole].square().mean()


def test_nothing_known_gives_something_finite():
    assert fill(torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_a_filling_is_float32_under_autocast():
    images, known = torch.rand(1, 3, 16, 16), rectangle((16, 16), slice(3, 9), slice(3, 9))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fill(images, known), fill(images, known).float())
        mixed = fill(images, known)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, fill(images, known))


def test_the_estimate_of_the_hole_starts_from_exact_black():
    degraded = torch.rand(2, 3, 32, 32) * 1.5 - 0.6
    degraded[..., 5:12, 9:20] = -1
    probability = torch.sigmoid(HoleHead(16)(degraded))
    hole = (degraded == -1).all(dim=1, keepdim=True)
    assert probability[hole].min() > 0.97 and probability[~hole].max() < 0.03
    # Four grey levels are not black.
    almost = torch.sigmoid(HoleHead(16)(torch.full((1, 3, 32, 32), -1 + 8 / 255)))
    assert almost.max() < 0.05


def test_the_error_is_read_from_the_known_region():
    head = ErrorHead(8).eval()
    local, hole = torch.randn(1, 8, 16, 16), torch.zeros(1, 1, 32, 32)
    hole[..., 8:20, 8:20] = 1
    touched = local.clone()
    touched[..., 4:10, 4:10] += 5
    assert torch.equal(head(local, hole)[0], head(touched, hole)[0])
    assert not torch.equal(head(local, hole * 0)[0], head(touched, hole * 0)[0])


def test_in_training_every_other_image_is_judged_without_its_hole():
    head, local = ErrorHead(8), torch.randn(1, 8, 16, 16).expand(4, -1, -1, -1)
    hole = torch.zeros(4, 1, 32, 32)
    hole[..., 8:20, 8:20] = 1
    error, _ = head(local, hole)
    assert error[0] == error[2] and error[1] == error[3] and error[0] != error[1]
    error, _ = head.eval()(local, hole)
    assert (error == error[0]).all()
