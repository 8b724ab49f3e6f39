"""Blur against a loop over images that follows docs/protocol.md, and properties of its kernels."""

import math

import numpy as np
import pytest
import torch
from oracle import blur, gaussian_weight, motion_weight

from restoration.corruption import Defocus, GaussianBlur, MotionBlur
from restoration.corruption import blur as blur_module
from restoration.keyed import fold

SIZES = [(64, 64), (32, 32), (48, 80)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_motion_blur_equals_the_loop(size):
    scale = min(size) / 64
    lengths = [14 * scale * u for u in (0.0, 0.05, 0.3, 0.7, 1.0, 1.0)]
    angles = [0.4, 3.0, math.pi / 2, 0.8, 0.0, 2.3]
    images = torch.rand(6, 3, *size)
    parameters = {"length": torch.tensor(lengths), "angle": torch.tensor(angles)}
    blurred, mask = MotionBlur().apply(images, parameters)
    for number, (length, angle) in enumerate(zip(lengths, angles, strict=True)):
        expected = blur(images[number].numpy(), lambda x, y: motion_weight(x, y, length, angle))  # noqa: B023
        np.testing.assert_allclose(blurred[number].numpy(), expected, atol=2e-6)
    assert not mask.any()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gaussian_blur_equals_the_loop(size):
    sigmas = [3 * min(size) / 64 * u for u in (0.05, 0.2, 0.6, 1.0)]
    images = torch.rand(4, 3, *size)
    blurred, _ = GaussianBlur().apply(images, {"sigma": torch.tensor(sigmas)})
    for number, sigma in enumerate(sigmas):
        expected = blur(images[number].numpy(), lambda x, y: gaussian_weight(x, y, sigma))  # noqa: B023
        np.testing.assert_allclose(blurred[number].numpy(), expected, atol=2e-6)


def test_the_direction_points_down_and_to_the_right():
    """A point source blurred at angle π/4 becomes a streak along the main diagonal."""
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32, 32] = 1
    blurred, _ = MotionBlur().apply(image, {"length": torch.tensor([12.0]), "angle": torch.tensor([math.pi / 4])})
    assert blurred[0, 0, 35, 35] > 0.05 and blurred[0, 0, 29, 29] > 0.05
    assert blurred[0, 0, 35, 29] == 0 and blurred[0, 0, 29, 35] == 0
    level, _ = MotionBlur().apply(image, {"length": torch.tensor([12.0]), "angle": torch.tensor([0.0])})
    assert level[0, 0, 32, 26:39].min() > 0 and level[0, 0, 30].max() == 0


@pytest.mark.parametrize("operator", [MotionBlur(), GaussianBlur()], ids=["motion", "gaussian"])
def test_kernels_sum_to_one(operator):
    """A constant image is unchanged, and the sum of a point source is kept."""
    count = 40
    parameters = operator.sample(torch.linspace(0, 1, count), fold("sum", torch.arange(count)), (64, 64))
    constant, _ = operator.apply(torch.full((count, 3, 64, 64), 0.37), parameters)
    torch.testing.assert_close(constant, torch.full_like(constant, 0.37), atol=1e-6, rtol=0)
    point = torch.zeros(count, 3, 64, 64)
    point[..., 32, 32] = 1
    light = operator.apply(point, parameters)[0].sum(dim=(2, 3))
    torch.testing.assert_close(light, torch.ones_like(light), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [64, 32, 128])
def test_sampled_parameters_scale_with_the_shorter_side(size):
    severity, keys = torch.tensor([0.0, 0.5, 1.0]), torch.arange(3)
    motion = MotionBlur().sample(severity, keys, (size, 2 * size))
    torch.testing.assert_close(motion["length"], severity * 14 * size / 64)
    torch.testing.assert_close(
        GaussianBlur().sample(severity, keys, (2 * size, size))["sigma"], severity * 3 * size / 64
    )


def test_angles_fill_half_a_turn():
    angle = MotionBlur().sample(torch.ones(4000), fold("angle", torch.arange(4000)), (64, 64))["angle"] / math.pi
    assert angle.min() >= 0 and angle.max() < 1
    counts = torch.histc(angle, 8, 0, 1)
    assert (counts - 500).abs().max() < 4.5 * math.sqrt(500)


@pytest.mark.parametrize("operator", [MotionBlur(), GaussianBlur(), Defocus()])
def test_large_kernels_by_fft_give_the_same(operator, monkeypatch: pytest.MonkeyPatch):
    images, keys = torch.rand(3, 3, 40, 56), torch.arange(3)
    parameters = operator.sample(torch.tensor([0.0, 0.4, 1.0]), keys, (40, 56))
    direct, _ = operator.apply(images, parameters)
    monkeypatch.setattr(blur_module, "_LARGE", 0)
    by_fft, _ = operator.apply(images, parameters)
    assert by_fft.shape == images.shape and by_fft.is_contiguous()
    assert (direct - by_fft).abs().max() < 2e-6
