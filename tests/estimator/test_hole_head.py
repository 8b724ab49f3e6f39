"""The estimate of the hole: where it starts from, and how far it looks."""

import pytest
import torch
from torch import nn

from restoration.estimator.blind import HoleHead


def test_the_estimate_of_the_hole_starts_from_exact_black_without_certainty():
    degraded = torch.rand(2, 3, 32, 32) * 1.5 - 0.6
    degraded[..., 5:12, 9:20] = -1
    probability = torch.sigmoid(HoleHead(16)(degraded))
    hole = (degraded == -1).all(dim=1, keepdim=True)
    assert 0.7 < probability[hole].min() and probability[hole].max() < 0.75 and probability[~hole].max() < 0.06
    # Four grey levels are not black.
    almost = torch.sigmoid(HoleHead(16)(torch.full((1, 3, 32, 32), -1 + 8 / 255)))
    assert almost.max() < 0.06


@pytest.mark.parametrize("size", [(17, 30), (3, 2), (64, 48)])
def test_the_hole_is_estimated_at_any_size(size: tuple[int, int]):
    assert HoleHead(16)(torch.rand(1, 3, size[0] * 2, size[1] * 2)).shape == (1, 1, size[0] * 2, size[1] * 2)


def test_the_hole_is_told_by_its_surroundings():
    """A change reaches over the whole of a 64-pixel image."""
    head, degraded = HoleHead(16), torch.rand(1, 3, 64, 64, requires_grad=True)
    nn.init.normal_(head.last[0].weight, std=0.1)
    head(degraded)[0, 0, 32, 32].backward()
    assert (
        degraded.grad is not None and degraded.grad[..., 0, :].abs().max() > 0 < degraded.grad[..., -1, :].abs().max()
    )
