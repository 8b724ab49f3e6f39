"""Exactly black and white areas of intact training images."""

import pytest
import torch

from restoration.data.augment import flat_areas
from restoration.keyed import fold


def images() -> torch.Tensor:
    return torch.rand(300, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


def extreme(image: torch.Tensor) -> torch.Tensor:
    """Share of exactly black or white pixels (B,)."""
    return ((image == 0) | (image == 1)).all(1).float().mean(dim=(1, 2))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_that_share_of_the_images_gets_flat_areas(share):
    before, keys = images(), fold("flat", torch.arange(300))
    after = flat_areas(before, keys, share)
    changed = (after != before).flatten(1).any(1)
    assert abs(changed.float().mean() - share) < 4 * (share * (1 - share) / 300) ** 0.5 + 1e-6
    assert torch.equal(after[~changed], before[~changed])
    assert after.min() >= 0 and after.max() <= 1
    if share == 1:
        area = extreme(after)
        assert (area > 0.999).any() and ((area > 0.09) & (area < 0.6)).any()  # pages, and bars


def test_the_draws_are_those_of_the_image():
    before, keys = images(), fold("flat", torch.arange(300))
    whole, part = flat_areas(before, keys, 0.5), flat_areas(before[40:50], keys[40:50], 0.5)
    assert torch.equal(part, whole[40:50])
