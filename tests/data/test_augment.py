"""Areas of one colour in intact training images, and images of twice the side."""

import pytest
import torch

from restoration.data.augment import enlarged, flat_areas
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


def test_areas_of_one_colour_are_black_white_or_any():
    before, keys = images(), fold("flat", torch.arange(300))
    after = flat_areas(before, keys, 1.0)
    bars = [image[:, 0] for image in after if (image[:, :2] == image[:, :1, :1]).all()]  # along the upper border
    grey = [bar for bar in bars if 0.02 < bar[1, 0] < 0.98]
    assert 25 < len(bars) < 75 and 0.1 < len(grey) / len(bars) < 0.5
    colours = [len(image.unique()) for image in after]
    assert 45 < sum(3 <= number <= 6 for number in colours) < 110  # a quarter are drawings


def test_the_draws_are_those_of_the_image():
    before, keys = images(), fold("flat", torch.arange(300))
    whole, part = flat_areas(before, keys, 0.5), flat_areas(before[40:50], keys[40:50], 0.5)
    assert torch.equal(part, whole[40:50])


def test_images_are_enlarged_by_a_factor_from_2_to_4_and_cropped_at_random():
    ramp = (torch.arange(32) / 32).expand(200, 3, 32, 32)
    large = enlarged(ramp, fold("enlarged", torch.arange(200)))
    assert large.shape == (200, 3, 64, 64)
    inside = large[:, 0, 5, 16:49]
    factor = 1 / (inside[:, -1] - inside[:, 0])  # the ramp rises by 1 in 32 pixels of its own
    assert 1.9 < factor.min() < 2.1 and 3.8 < factor.max() < 4.1
    assert factor.log2().mean() == pytest.approx(1.5, abs=0.1)
    middle = large[:, 0, 5, 31:33].mean(1)
    assert middle.min() < 0.35 and middle.max() > 0.62 and middle.mean() == pytest.approx(0.5 - 1 / 64, abs=0.03)


def test_enlarging_keeps_a_constant_and_draws_by_image():
    keys = fold("enlarged", torch.arange(20))
    assert torch.allclose(enlarged(torch.full((20, 3, 16, 16), 0.3), keys), torch.tensor(0.3), atol=1e-6)
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole, part = enlarged(images, keys), enlarged(images[4:9], keys[4:9])
    assert torch.allclose(part, whole[4:9], atol=1e-6)
    assert whole.min() >= 0 and whole.max() <= 1
