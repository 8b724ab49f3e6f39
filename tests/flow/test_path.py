"""The path and its velocity."""

import pytest
import torch

from restoration.flow import interpolate, precondition, to_image, to_model


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


def test_the_preconditioned_input_is_0_at_the_start_and_the_residual_at_the_end():
    residual, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    residual_std = torch.rand(2, 1, 4, 4) + 0.1
    for level in (0.0, 0.5):
        sigma = torch.full_like(residual_std, level)
        assert not precondition(level * noise, residual_std, torch.zeros(2), sigma).any()
        end = precondition(residual, residual_std, torch.ones(2), sigma)
        torch.testing.assert_close(end, residual / residual_std)


def test_the_preconditioned_input_is_0_where_no_error_is_expected():
    innovation, sigma = torch.randn(2, 3, 4, 4), torch.full((2, 1, 4, 4), 0.5)
    for t in (0.0, 0.5, 1.0):
        assert not precondition(innovation, torch.zeros(2, 1, 4, 4), torch.full((2,), t), sigma).any()


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("residual_std", [0.05, 0.5])
def test_the_preconditioned_input_is_the_best_linear_estimate(t, residual_std):
    """Least squares of the residual, in units of its standard deviation, on the innovation."""
    sigma, count = 0.5, 200_000
    residual = residual_std * torch.randn(count, dtype=torch.float64)
    innovation = t * residual + (1 - t) * sigma * torch.randn(count, dtype=torch.float64)
    best = (innovation * residual).sum() / innovation.square().sum() / residual_std
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    gain = precondition(one, residual_std * one, torch.tensor([t], dtype=torch.float64), sigma * one)
    # Least squares of a weak signal is itself uncertain by about 1/√count of the noise.
    assert float(gain) == pytest.approx(float(best), rel=0.02, abs=3 / count**0.5)
