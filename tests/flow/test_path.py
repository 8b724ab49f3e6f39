"""The path and its velocity."""

import pytest
import torch

from restoration.flow import clean_to_velocity, evidence, interpolate, to_image, to_model


def pair(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 3, 8, 8), torch.randn(count, 3, 8, 8)


def test_end_points_are_exact():
    x_0, x_1 = pair()
    assert torch.equal(interpolate(x_0, x_1, torch.zeros(5)), x_0)
    assert torch.equal(interpolate(x_0, x_1, torch.ones(5)), x_1)


def test_every_image_has_its_own_time():
    x_0, x_1 = pair()
    t = torch.linspace(0, 1, 5)
    x_t = interpolate(x_0, x_1, t)
    for number in range(5):
        torch.testing.assert_close(x_t[number], x_0[number] + t[number] * (x_1 - x_0)[number])


def test_the_velocity_is_the_paths_derivative():
    x_0, x_1 = (x.double() for x in pair())
    t = torch.rand(5, dtype=torch.float64)
    _, derivative = torch.func.jvp(lambda time: interpolate(x_0, x_1, time), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(derivative, x_1 - x_0)


def test_the_maps_between_the_spaces_are_inverse():
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(to_image(to_model(images)), images, atol=1e-7, rtol=0)
    levels = torch.arange(256) / 255
    assert torch.equal((to_image(to_model(levels)) * 255).round(), torch.arange(256.0))
    assert to_model(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
    assert to_image(torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_the_true_clean_image_gives_the_true_velocity():
    x_0, x_1 = pair()
    t = torch.tensor([0.0, 0.3, 0.6, 0.9, 0.95])
    velocity = clean_to_velocity(x_1, interpolate(x_0, x_1, t), t)
    torch.testing.assert_close(velocity, x_1 - x_0, atol=2e-5, rtol=0)


def test_the_velocity_stays_finite_at_the_end():
    x_0, x_1 = pair()
    t = torch.tensor([0.96, 0.99, 0.999, 1.0, 1.0])
    x_t = interpolate(x_0, x_1, t)
    velocity = clean_to_velocity(x_1, x_t, t, 0.05)
    # The divisor is held at 0.05.
    torch.testing.assert_close(velocity, (x_1 - x_t) / 0.05)
    # Where a sampler asks, it is not.
    exact = clean_to_velocity(x_1, x_t, t)
    torch.testing.assert_close(exact[:3], (x_1 - x_0)[:3], atol=1e-3, rtol=0)
    assert exact.isfinite().all()
    assert not velocity[3:].any()


def test_the_evidence_is_nothing_at_the_start_and_all_at_the_end():
    residual, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    scale = torch.rand(2, 1, 4, 4) + 0.1
    for sigma in (0.0, 0.5):
        deviation = torch.full_like(scale, sigma)
        assert not evidence(sigma * noise, scale, torch.zeros(2), deviation).any()
        torch.testing.assert_close(evidence(residual, scale, torch.ones(2), deviation), residual / scale)


def test_without_expected_error_there_is_no_evidence():
    innovation, deviation = torch.randn(2, 3, 4, 4), torch.full((2, 1, 4, 4), 0.5)
    for t in (0.0, 0.5, 1.0):
        assert not evidence(innovation, torch.zeros(2, 1, 4, 4), torch.full((2,), t), deviation).any()


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_the_evidence_is_the_best_linear_estimate(t, scale):
    """Least squares of the residual, in units of its standard deviation, on what is told of it."""
    sigma, count = 0.5, 200_000
    residual = scale * torch.randn(count, dtype=torch.float64)
    told = t * residual + (1 - t) * sigma * torch.randn(count, dtype=torch.float64)
    best = (told * residual).sum() / told.square().sum() / scale
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    gain = evidence(one, scale * one, torch.tensor([t], dtype=torch.float64), sigma * one)
    # Least squares of a weak signal is itself uncertain by about 1/√count of the noise.
    assert float(gain) == pytest.approx(float(best), rel=0.02, abs=3 / count**0.5)
