"""Errors of pixels against values computed here from the formulas."""

import math

import pytest
import torch
from torch import Tensor

from restoration.objective import (
    AdaptiveSquaredError,
    LogSquaredError,
    PixelError,
    RegionLogSquaredError,
    SquaredError,
)

NO_HOLE = torch.zeros(4, 1, 8, 8, dtype=torch.bool)


def test_each_region_has_a_logarithm_and_an_absent_one_counts_nothing():
    prediction, target = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    mask = NO_HOLE.clone()
    mask[0, :, 2:5, 1:7] = True
    mask[1] = True
    square = (prediction - target).square()
    inside, outside = square[0][:, mask[0, 0]].mean(), square[0][:, ~mask[0, 0]].mean()
    expected = torch.stack([(inside.log() + outside.log()) / 2, *(image.mean().log() for image in square[1:])])
    torch.testing.assert_close(RegionLogSquaredError(floor=0.0)(prediction, target, mask), expected)
    # 18 of 64 pixels.
    expected[0] = (18 * inside.log() + 46 * outside.log()) / 64
    torch.testing.assert_close(RegionLogSquaredError(floor=0.0, by_area=True)(prediction, target, mask), expected)


def test_squared_errors_are_per_image():
    prediction, target = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    expected = torch.stack([((p - t) ** 2).sum() / p.numel() for p, t in zip(prediction, target, strict=True)])
    torch.testing.assert_close(SquaredError()(prediction, target, NO_HOLE), expected)
    torch.testing.assert_close(LogSquaredError(floor=0.0)(prediction, target, NO_HOLE), expected.log())
    torch.testing.assert_close(LogSquaredError(floor=0.01)(prediction, target, NO_HOLE), (expected + 0.01).log())


def test_the_log_error_is_the_psnr_and_finite_on_a_perfect_image():
    clean = torch.rand(2, 3, 8, 8)
    restored = clean + torch.tensor([0.1, 0.01])[:, None, None, None]
    # In [−1, 1] differences are doubled: PSNR = −10·log10(MSE / 4).
    error = LogSquaredError(floor=0.0)(2 * restored - 1, 2 * clean - 1, NO_HOLE[:2])
    torch.testing.assert_close(
        -10 * (error / math.log(10) - math.log10(4)), torch.tensor([20.0, 40.0]), rtol=1e-4, atol=0
    )
    assert LogSquaredError()(clean, clean, NO_HOLE[:2]).tolist() == pytest.approx([math.log(1e-4)] * 2)


def test_adaptive_weights_interpolate_between_the_squared_error_and_its_logarithm():
    prediction, target = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 8, 8)

    def gradient(error: PixelError) -> Tensor:
        return torch.autograd.grad(error(prediction, target, NO_HOLE).sum(), prediction)[0]

    floor = 0.02
    torch.testing.assert_close(gradient(AdaptiveSquaredError(0.0, floor)), gradient(SquaredError()))
    torch.testing.assert_close(gradient(AdaptiveSquaredError(1.0, floor)), gradient(LogSquaredError(floor)))
    half = gradient(AdaptiveSquaredError(0.5, floor))
    square = (prediction - target).square().mean(dim=(1, 2, 3), keepdim=True).detach()
    torch.testing.assert_close(half, gradient(SquaredError()) / (square + floor).sqrt())
