"""The path, its velocity, and the preconditioning against what probability says they must be."""

import pytest
import torch

from restoration.flow import clean_to_velocity, interpolate, precondition, to_image, to_model


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
    velocity = clean_to_velocity(x_1, x_t, t)
    # The divisor is held at 0.05.
    torch.testing.assert_close(velocity, (x_1 - x_t) / 0.05)
    assert not velocity[3:].any()


def scalar(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value)


def test_at_the_start_the_guess_is_zero_and_the_miss_the_scale():
    state, scale = torch.randn(3, 3, 4, 4), torch.rand(3, 1, 4, 4)
    guess, error = precondition(state, torch.zeros(3), scale, 0.5)
    assert not guess.any()
    torch.testing.assert_close(error, scale)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_where_nothing_is_damaged_the_answer_is_the_degraded_image(sigma):
    state, t = torch.randn(5, 3, 4, 4), torch.tensor([0.0, 0.2, 0.7, 0.99, 1.0])
    guess, error = precondition(state, t, torch.zeros(5, 1, 4, 4), sigma)
    assert not guess.any() and not error.any()


def test_towards_the_end_the_guess_is_the_state_and_the_miss_the_noise():
    state, scale = torch.randn(1, 3, 4, 4), torch.full((1, 1, 4, 4), 0.8)
    guess, error = precondition(state, torch.tensor([0.999]), scale, 0.5)
    torch.testing.assert_close(guess, state / 0.999, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(error, torch.full_like(error, 0.001 * 0.5 / 0.999), rtol=1e-4, atol=0)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("r", [0.05, 0.15, 1.0])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_guess_is_the_least_squares_one_and_the_miss_its_error(t, r, sigma):
    """Monte Carlo: a residual of standard deviation r, seen as t·residual + (1 − t)·σ·n."""
    count = 200_000
    residual, noise = r * torch.randn(count, dtype=torch.float64), torch.randn(count, dtype=torch.float64)
    state = t * residual + (1 - t) * sigma * noise
    guess, error = precondition(state.view(1, 1, 1, -1), torch.tensor([t]).double(), scalar(r).double(), sigma)
    coefficient = (state * residual).mean() / state.square().mean()
    # The coefficient's own error is error / (sqrt(count)·rms of the state).
    tolerance = 4.5 * error.item() / (count**0.5 * state.square().mean().sqrt().item())
    assert (guess.flatten()[0] / state[0] - coefficient).abs() < tolerance
    missed = (residual - guess.flatten()).square().mean().sqrt()
    assert missed == pytest.approx(error.item(), rel=4.5 / (2 * count) ** 0.5)


@pytest.mark.parametrize("sigma", [0.0, 1e-4, 0.5, 1.0])
def test_it_is_finite_everywhere_and_so_is_its_gradient(sigma):
    t = torch.tensor([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0]).repeat_interleave(4)
    scale = torch.tensor([0.0, 1e-6, 0.15, 1.0]).repeat(5)[:, None, None, None]
    state = torch.randn(20, 3, 2, 2, requires_grad=True)
    t.requires_grad_()
    guess, error = precondition(state, t, scale, sigma)
    assert guess.isfinite().all() and error.isfinite().all()
    (guess.sum() + error.sum()).backward()
    assert state.grad.isfinite().all() and t.grad.isfinite().all()
