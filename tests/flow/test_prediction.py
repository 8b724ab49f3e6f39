"""Predictions: what the network sees, what its output means, and how training weights the velocity over time."""

import math

import pytest
import torch
from torch import Tensor

from restoration.estimator import Estimate
from restoration.flow import CleanPrediction, VelocityPrediction, interpolate, precondition
from restoration.flow.field import Network
from restoration.flow.prediction import local_mean

TIMES = torch.tensor([0.0, 0.4, 0.95], dtype=torch.float64)


class Drawn:
    """Random images whose initial estimate, residual std and source have nothing to do with the clean image."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        degraded, self.x_1, noise = torch.randn(3, 3, 3, 4, 4, dtype=dtype)
        residual_std, sigma = torch.rand(2, 3, 1, 4, 4, dtype=dtype) + 0.1
        self.estimate = Estimate(0.5 * degraded, residual_std, torch.zeros_like(residual_std))
        self.mean, self.sigma = 0.3 * degraded, sigma
        self.x_0 = self.mean + sigma * noise
        self.t = TIMES.to(dtype)
        self.x_t = interpolate(self.x_0, self.x_1, self.t)

    def field(self, kind: type, network: Network, **options: float) -> CleanPrediction | VelocityPrediction:
        return kind(network, self.estimate, self.mean, self.sigma, **options)

    def exact(self, kind: type, **options: float) -> CleanPrediction | VelocityPrediction:
        """The field of a network that knows x_0 and x_1."""
        initial, residual_std = self.estimate.initial, self.estimate.residual_std
        outputs = {
            CleanPrediction: (self.x_1 - initial) / residual_std,
            VelocityPrediction: self.x_1 - self.x_0 - (initial - self.mean),
        }
        return self.field(kind, lambda x_in, t, r, noise: outputs[kind], **options)


@pytest.fixture
def drawn() -> Drawn:
    return Drawn()


kinds = pytest.mark.parametrize("kind", [CleanPrediction, VelocityPrediction])


@kinds
def test_a_perfect_network_gives_the_clean_image_and_the_velocity(drawn, kind):
    field = drawn.exact(kind)
    torch.testing.assert_close(field.clean(drawn.x_t, drawn.t), drawn.x_1)
    torch.testing.assert_close(field.velocity(drawn.x_t, drawn.t), drawn.x_1 - drawn.x_0)


def test_the_clean_network_sees_the_preconditioned_input(drawn):
    def network(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
        innovation = interpolate(drawn.x_0 - drawn.mean, drawn.x_1 - drawn.estimate.initial, t)
        expected = precondition(innovation, drawn.estimate.residual_std, t, drawn.sigma)
        torch.testing.assert_close(x_in, expected)
        assert r is None and torch.equal(t, drawn.t)
        return x_in

    drawn.field(CleanPrediction, network).clean(drawn.x_t, drawn.t)


def test_the_velocity_network_sees_the_innovation(drawn):
    def network(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
        torch.testing.assert_close(x_in, interpolate(drawn.x_0 - drawn.mean, drawn.x_1 - drawn.estimate.initial, t))
        assert r is None and torch.equal(t, drawn.t)
        return x_in

    drawn.field(VelocityPrediction, network).velocity(drawn.x_t, drawn.t)


def test_a_network_that_returns_zero_leaves_the_initial_estimate(drawn):
    def zero(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
        return torch.zeros_like(x_in)

    initial = drawn.estimate.initial
    assert torch.equal(drawn.field(CleanPrediction, zero).clean(drawn.x_t, drawn.t), initial)
    # From the source's mean, straight to the initial estimate.
    start = drawn.field(VelocityPrediction, zero).clean(drawn.mean, torch.zeros_like(drawn.t))
    torch.testing.assert_close(start, initial)


def test_the_velocity_of_a_predicted_clean_image_is_finite_up_to_the_end():
    drawn = Drawn(torch.float32)
    t = torch.tensor([0.999, 1 - 2.0**-24, 1.0])
    field = drawn.exact(CleanPrediction)
    velocity = field.velocity(interpolate(drawn.x_0, drawn.x_1, t), t)
    torch.testing.assert_close(velocity[0], (drawn.x_1 - drawn.x_0)[0], atol=1e-3, rtol=0)
    assert velocity.isfinite().all()


def test_a_velocity_prediction_is_trained_on_the_unweighted_velocity(drawn):
    """Also at t = 0.95, where a detour over the clean image would divide by a floor of 1 − t."""
    output = torch.randn_like(drawn.x_t)
    field = drawn.field(VelocityPrediction, lambda x_in, t, r, noise: output)
    velocity, target = field.training_pair(drawn.x_0, drawn.x_1, drawn.x_t, drawn.t)
    assert torch.equal(velocity, drawn.estimate.initial - drawn.mean + output)
    assert torch.equal(velocity, field.velocity(drawn.x_t, drawn.t))
    assert torch.equal(target, drawn.x_1 - drawn.x_0)


@pytest.mark.parametrize("floor", [0.02, 0.3])
def test_a_clean_prediction_is_trained_on_its_error_over_the_time_left(drawn, floor):
    output = torch.randn_like(drawn.x_t)
    field = drawn.field(CleanPrediction, lambda x_in, t, r, noise: output, floor=floor)
    velocity, target = field.training_pair(drawn.x_0, drawn.x_1, drawn.x_t, drawn.t)
    clean = drawn.estimate.initial + drawn.estimate.residual_std * output
    for number, t in enumerate(TIMES.tolist()):
        error = (clean - drawn.x_1)[number] / max(1 - t, floor)
        torch.testing.assert_close((velocity - target)[number], error)
        if 1 - t > floor:
            torch.testing.assert_close(velocity[number], field.velocity(drawn.x_t, drawn.t)[number])
            torch.testing.assert_close(target[number], (drawn.x_1 - drawn.x_0)[number])


@kinds
def test_a_perfect_network_has_no_training_error(drawn, kind):
    velocity, target = drawn.exact(kind).training_pair(drawn.x_0, drawn.x_1, drawn.x_t, drawn.t)
    torch.testing.assert_close(velocity, target)


def test_the_local_mean_is_the_weighted_one():
    images, weight = torch.randn(2, 3, 12, 17, dtype=torch.float64), torch.rand(2, 1, 12, 17, dtype=torch.float64)
    sigma, row, column = 1.7, 2, 9  # near the upper border
    y, x = torch.arange(12.0, dtype=torch.float64)[:, None], torch.arange(17.0, dtype=torch.float64)
    near = ((y - row).abs() <= 6) & ((x - column).abs() <= 6)
    window = near * torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
    full = torch.exp(-(torch.arange(-6.0, 7.0, dtype=torch.float64) ** 2) / (2 * sigma**2)).sum() ** 2
    expected = (images * weight * window).sum(dim=(2, 3)) / ((weight * window).sum(dim=(2, 3)) + 0.02 * full)
    torch.testing.assert_close(local_mean(images, weight, sigma)[..., row, column], expected)


def test_a_wide_window_on_a_coarse_grid_is_close_to_the_mean():
    """Of a slow wave, in float64: the mean of a wave is the wave, damped by exp(−½(σω)²)."""
    x, sigma, frequency = torch.arange(200, dtype=torch.float64), 8, 0.05
    wave = torch.sin(frequency * x).expand(1, 1, 200, 200)
    mean = local_mean(wave, torch.ones_like(wave), sigma)
    inside = (slice(None), slice(None), slice(40, 160), slice(40, 160))
    expected = wave * math.exp(-((sigma * frequency) ** 2) / 2) / 1.02
    torch.testing.assert_close(mean[inside], expected[inside], atol=3e-3, rtol=0)


def test_the_local_mean_of_what_is_known_is_kept(drawn):
    """Of a wide residual, as of a colour cast; in the hole and where nothing remains to be done all is as without."""
    estimate, side = drawn.estimate, 64
    hole = torch.zeros(3, 1, side, side, dtype=torch.float64)
    hole[1, :, 20:60, 10:50] = 1
    std = torch.full_like(hole, 0.3)
    std[2, :, :8] = 0
    degraded = torch.rand(3, 3, side, side, dtype=torch.float64)
    estimate = Estimate(degraded, std, hole)
    detail = 0.1 * (-1.0) ** torch.arange(side, dtype=torch.float64)

    def field(keep_mean: float, cast: float) -> Tensor:
        network = lambda *_: (detail + cast).expand(3, 3, side, side)  # noqa: E731
        return CleanPrediction(network, estimate, degraded, hole, keep_mean=keep_mean).clean(degraded, TIMES)

    plain, kept = field(0, 0.2), field(4, 0.2)
    torch.testing.assert_close(kept[0], field(0, 0.0)[0], atol=0.3 * 0.2 * 0.15, rtol=0)  # 2 % remain, more at a border
    middle = (slice(None), slice(38, 42), slice(28, 32))
    torch.testing.assert_close(kept[1][middle], plain[1][middle], atol=1e-3, rtol=0)
    assert torch.equal(kept[2, :, :8], degraded[2, :, :8])
