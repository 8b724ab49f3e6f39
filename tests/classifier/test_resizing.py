"""Images that grow over the training."""

import pytest
import torch

from restoration.classifier import Resizing


def test_sides_grow_to_the_full_one():
    resizing = Resizing(start=0.5, until=0.5, multiple=8)
    sides = {0.0: 32, 0.124: 32, 0.125: 40, 0.25: 48, 0.49: 56, 0.5: 64, 1.0: 64}
    assert {progress: resizing.side(64, progress) for progress in sides} == sides
    assert Resizing(start=0.1).side(32, 0.0) == 8 and Resizing(until=0.0).side(32, 0.0) == 32


def test_small_images_have_the_colours_of_large_ones():
    """Of halves of one colour, every pixel but those at the edge keeps its colour, and the mean stays."""
    images = torch.zeros(2, 3, 32, 32)
    images[:, 0, :, 16:] = 1.0
    small = Resizing(multiple=4)(images, 0.0)
    assert small.shape == (2, 3, 16, 16) and float(small.mean()) == pytest.approx(float(images.mean()), abs=1e-6)
    assert torch.equal(small[:, 0, :, :7], torch.zeros(2, 16, 7)) and float(small[:, 0, :, 9:].min()) > 0.999
    assert Resizing()(images, 0.9) is images
