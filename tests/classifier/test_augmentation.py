"""Augmentation: what moves, what is kept, and that labels keep their mass."""

import pytest
import torch

from restoration.classifier import Augmentation

LABELS = torch.arange(16) % 5


def images(size: int = 16) -> torch.Tensor:
    return torch.rand(16, 3, size, size)


def test_nothing_is_the_identity():
    given = images()
    varied, labels = Augmentation()(given, LABELS, 5)
    assert varied is given and labels is LABELS


def test_a_shift_is_a_window_of_the_reflected_image():
    given = images()
    varied, labels = Augmentation(shift=0.125)(given, LABELS, 5)
    padded = torch.nn.functional.pad(given, (2,) * 4, mode="reflect")
    places = set()
    for image, around in zip(varied, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, around[:, y : y + 16, x : x + 16])]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 4 and labels is LABELS


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixtures_keep_the_mass_of_labels(options: dict):
    given = images()
    varied, shares = Augmentation(**options)(given, LABELS, 5)
    assert shares.shape == (16, 5) and not torch.equal(varied, given)
    torch.testing.assert_close(shares.sum(1), torch.ones(16))
    assert 0 <= float(varied.min()) and float(varied.max()) <= 1
    assert torch.equal(Augmentation(**options, mixed=0.0)(given, LABELS, 5)[1], LABELS)


def test_cutmix_shares_are_those_of_the_pixels():
    """Of images that are 0 or 1 throughout, the mean is the share of the other image."""
    given = (torch.arange(16) % 2).float()[:, None, None, None].expand(16, 3, 16, 16).clone()
    varied, shares = Augmentation(cutmix=1.0)(given, torch.arange(16) % 2, 2)
    torch.testing.assert_close(varied.mean(dim=(1, 2, 3)), shares[:, 1])


def test_draws_follow_the_seed_and_differ_between_images():
    augment = Augmentation(shift=0.25, operations=2, mixup=0.2, cutmix=1.0)
    given = torch.rand(1, 3, 16, 16).expand(16, 3, 16, 16)
    torch.manual_seed(3)
    first = augment(given, LABELS, 5)
    torch.manual_seed(3)
    second = augment(given, LABELS, 5)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert len({image.numpy().tobytes() for image in first[0]}) > 8
