"""The field: its three forms agree, and forward-mode derivatives pass through it, with one time and with two."""

from dataclasses import replace

import pytest
import torch
from helpers import Plain, Velocity
from torch import Tensor, nn

from restoration.backbone import Backbone
from restoration.errors import UserError
from restoration.estimator import Estimate
from restoration.flow import CleanPrediction, ConditionalField, Degraded, VelocityPrediction
from restoration.keyed import normal
from restoration.restorer import Restorer
from restoration.sampler import Euler

PREDICTIONS = pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])


class TwoTimes(Backbone):
    """A small convolutional network of x_in, the degraded image, t, r and the noise; smooth: derivatives exist."""

    two_times = True

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def encode(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return degraded

    def forward(self, x_in: Tensor, t: Tensor, features: Tensor, r: Tensor | None = None, noise=None) -> Tensor:
        times = [time[:, None, None, None].expand_as(x_in[:, :1]) for time in (t, t if r is None else r)]
        state = self.first(torch.cat([x_in, features, *times], dim=1))
        if r is not None:
            state = state + (r - t)[:, None, None, None] * self.stem(noise)
        return self.last(torch.tanh(state))


@pytest.fixture
def point() -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and r, float64."""
    t = torch.tensor([0.0, 0.3, 0.8], dtype=torch.float64)
    return torch.randn(3, 3, 8, 8, dtype=torch.float64), t, t + 0.7 * (1 - t)


def field_of(prediction: type, backbone: Backbone | None = None) -> ConditionalField:
    """The field in float64, with an initial estimate and a residual std of its own."""
    restorer = Restorer(backbone or TwoTimes(), Degraded(0.5), Euler(), prediction).double()
    degraded = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    field = restorer.field(degraded)
    std = torch.rand(3, 1, 8, 8, dtype=torch.float64) + 0.1
    return replace(field, estimate=replace(field.estimate, initial=0.5 * degraded, residual_std=std))


@PREDICTIONS
def test_velocity_clean_and_displacement_agree(prediction, point):
    x, t, r = point
    field = field_of(prediction)
    left, step = (1 - t)[:, None, None, None], (r - t)[:, None, None, None]
    torch.testing.assert_close(field.clean(x, t), x + left * field.velocity(x, t))
    torch.testing.assert_close(field.displacement(x, t, r), step * field.velocity(x, t, r))
    # r reaches the network: the average velocity is not the instantaneous one.
    assert (field.velocity(x, t, r) - field.velocity(x, t)).abs().max() > 1e-2


@PREDICTIONS
def test_an_interval_without_length_is_the_instantaneous_field(prediction, point):
    """This network reads r = t as no r."""
    x, t, _ = point
    field = field_of(prediction)
    torch.testing.assert_close(field.velocity(x, t, t), field.velocity(x, t))
    assert not field.displacement(x, t, t).any()


@PREDICTIONS
def test_the_average_velocity_is_the_networks_output_with_r(prediction, point):
    x, t, r = point
    field = field_of(prediction)
    outputs = []

    def network(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
        torch.testing.assert_close(noise, field.innovation(x, t) / 0.5)
        outputs.append(field.network(x_in, t, r, noise))
        return outputs[-1]

    velocity = replace(field, network=network).velocity(x, t, r)
    initial, std = field.estimate.initial, field.estimate.residual_std
    if prediction is CleanPrediction:
        expected = (initial + std * outputs[0] - x) / (1 - t)[:, None, None, None]
    else:
        expected = initial - field.mean + outputs[0]
    torch.testing.assert_close(velocity, expected)


@PREDICTIONS
@pytest.mark.parametrize("form", ["displacement", "velocity", "instantaneous"])
def test_the_jvp_equals_central_differences(prediction, form, point):
    x, t, r = point
    t = t + 0.05  # a difference in both directions stays inside [0, 1]
    field = field_of(prediction)

    def value(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        if form == "instantaneous":
            return field.velocity(x, t)
        return field.displacement(x, t, r) if form == "displacement" else field.velocity(x, t, r)

    # MeanFlow's direction: along the trajectory, dx/dt = v, dt/dt = 1; and dr/dt, which a flow map's identity needs.
    tangents = (torch.randn_like(x), torch.ones_like(t), torch.full_like(r, -0.5))
    primal, tangent = torch.func.jvp(value, (x, t, r), tangents)
    with torch.no_grad():
        torch.testing.assert_close(primal, value(x, t, r))
        h = 1e-5
        ahead, behind = (
            value(*(v + sign * h * d for v, d in zip((x, t, r), tangents, strict=True))) for sign in (1, -1)
        )
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-6)
    assert tangent.abs().max() > 0.1


@PREDICTIONS
def test_a_backbone_with_one_time_refuses_an_interval(prediction):
    field = Restorer(Plain(), Degraded(0.5), Euler(), prediction).field(torch.rand(2, 3, 8, 8))
    x, t = torch.randn(2, 3, 8, 8), torch.zeros(2)
    field.velocity(x, t)
    for ask in (field.velocity, field.displacement):
        with pytest.raises(UserError, match="Plain takes one time t; .*two_times = True"):
            ask(x, t, t + 0.5)


def test_the_start_is_the_mean_and_keyed_noise_of_sigma():
    field = field_of(CleanPrediction)
    sigma = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    keys = torch.tensor([5, 5, 6])
    start = replace(field, sigma=sigma).start(keys)
    torch.testing.assert_close(start, field.mean + sigma * normal(keys, (3, 8, 8)))


def test_the_innovation_is_zero_on_the_expected_path(point):
    _, t, _ = point
    field = field_of(CleanPrediction)
    time = t[:, None, None, None]
    expected = (1 - time) * field.mean + time * field.estimate.initial
    noise = torch.randn_like(expected)
    torch.testing.assert_close(field.innovation(expected + noise, t), noise)


def test_the_noise_is_the_sources_at_the_start_and_zero_without_any():
    field, keys = field_of(CleanPrediction), torch.tensor([5, 5, 6])
    sigma = torch.rand(3, 1, 8, 8, dtype=torch.float64) + 0.1
    sigma[..., :2] = 0
    field = replace(field, sigma=sigma)
    n, start = normal(keys, (3, 8, 8)).double(), torch.zeros(3, dtype=torch.float64)
    noise = field.noise(field.start(keys), start)
    torch.testing.assert_close(noise[..., 2:], n[..., 2:])
    assert not noise[..., :2].any()
    # Later it is mixed with what x_t tells of the clean image.
    x_1, half = torch.randn_like(field.mean), start + 0.5
    x_t = 0.5 * field.start(keys) + 0.5 * x_1
    expected = 0.5 * n + 0.5 * (x_1 - field.estimate.initial) / sigma
    torch.testing.assert_close(field.noise(x_t, half)[..., 2:], expected[..., 2:])


@PREDICTIONS
def test_without_an_interval_the_network_sees_no_noise(prediction, point):
    x, t, r = point
    field, seen = field_of(prediction), []
    seen_by = replace(field, network=lambda x_in, t, r, noise: seen.append((r, noise)) or x_in)
    seen_by.velocity(x, t)
    seen_by.clean(x, t)
    assert seen == [(None, None)] * 2


def test_a_field_of_a_velocity_alone_has_its_clean_image():
    """dx/dt = −x: the straight line from x at t leads to x − (1 − t)·x."""
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.25, 0.5])
    torch.testing.assert_close(Velocity(lambda x, t: -x).clean(x, t), x * t[:, None, None, None])
