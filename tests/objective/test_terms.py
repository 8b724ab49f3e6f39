"""Terms against values computed here from the formulas."""

import pytest
import torch
from helpers import Plain
from torch import Tensor, nn

from restoration.backbone import Backbone
from restoration.batch import Batch
from restoration.estimator import Estimate, Estimator
from restoration.flow import Degraded, Uniform, VelocityPrediction
from restoration.keyed import fold, normal
from restoration.objective import FlowMatching, LogSquaredError, Regression, SquaredError, Term, TermValue
from restoration.restorer import Restorer
from restoration.sampler import Euler

SIGMA, STD = 0.5, 0.4


class Constant(Estimator):
    """The degraded image as the initial estimate, and a constant residual std."""

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        one = torch.ones_like(degraded[:, :1])
        return Estimate(degraded, STD * one, 0 * one)


class Fixed(Backbone):
    """A fixed output for each image; records what it was called with."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.encoded = 0

    def encode(self, degraded: Tensor, estimate: Estimate) -> None:
        self.encoded += 1

    def forward(self, x_in: Tensor, t: Tensor, features: None, r: Tensor | None = None) -> Tensor:
        self.calls.append((x_in.detach(), t))
        return self.output


def make_batch(count: int = 6, size: int = 32) -> Batch:
    clean = torch.rand(count, 3, size, size)
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    mask[:, :, 4:12, 6:14] = True
    degraded = (clean * 0.9 + 0.03).masked_fill(mask, 0.0)
    return Batch(clean, degraded, mask, torch.rand(count), torch.arange(count))


def restorer_of(batch: Batch, **options) -> Restorer:
    return Restorer(Fixed(torch.randn_like(batch.clean)), Degraded(SIGMA), Euler(), estimator=Constant(), **options)


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture
def restorer(batch: Batch) -> Restorer:
    return restorer_of(batch)


def call(term: Term, restorer: Restorer, batch: Batch, keys: Tensor) -> TermValue:
    return term(restorer.field(batch.degraded), batch, keys)


def test_regression_is_the_error_of_the_prediction_at_the_start(restorer, batch):
    value = call(Regression(SquaredError()), restorer, batch, fold("step", batch.index))
    # x̂ = y + residual std · output.
    prediction = 2 * batch.degraded - 1 + STD * restorer.backbone.output
    torch.testing.assert_close(value.loss, (prediction - (2 * batch.clean - 1)).square().mean())
    ((x_in, t),) = restorer.backbone.calls
    # At t = 0 the network gets nothing beyond the degraded image, whatever the noise.
    assert not t.any() and not x_in.any()


def by_hand(restorer: Restorer, batch: Batch, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Times, the velocity's squared error per image, and the path's noise, from the call of the backbone."""
    ((x_in, t),) = restorer.backbone.calls
    y, x_1, late = 2 * batch.degraded - 1, 2 * batch.clean - 1, t[:, None, None, None]
    # x̂ = y + residual std · output; its error is the velocity's times 1 − t.
    error = (y + STD * restorer.backbone.output - x_1) / (1 - late).clamp(min=floor)
    innovation = x_in * ((late * STD) ** 2 + ((1 - late) * SIGMA) ** 2) / (late * STD)
    noise = (innovation - late * (x_1 - y)) / ((1 - late) * SIGMA)
    return t, error.square().mean(dim=(1, 2, 3)).detach(), noise


def test_flow_matching_is_the_error_of_the_velocity(restorer, batch):
    value = call(FlowMatching(Uniform(), SquaredError()), restorer, batch, fold("step", batch.index))
    t, square, noise = by_hand(restorer, batch, 0.3)
    torch.testing.assert_close(value.loss, square.mean(), rtol=1e-4, atol=0)
    # The path's noise is the keyed one.
    expected = normal(fold(fold("step", batch.index), "noise", 0), (3, 32, 32))
    inside = (t > 0.05) & (t < 0.9)
    assert inside.any()
    torch.testing.assert_close(noise[inside], expected[inside], atol=1e-3, rtol=0)


def test_flow_matching_of_a_velocity_prediction_does_not_weight_times(batch):
    """The error of v = y − y + output against x_1 − x_0, whatever t."""
    restorer = restorer_of(batch, prediction=VelocityPrediction)
    keys = fold("step", batch.index)
    value = call(FlowMatching(Uniform(), SquaredError()), restorer, batch, keys)
    y, x_1 = 2 * batch.degraded - 1, 2 * batch.clean - 1
    x_0 = y + SIGMA * normal(fold(keys, "noise", 0), (3, 32, 32))
    ((_, t),) = restorer.backbone.calls
    assert t.max() > 0.8
    torch.testing.assert_close(value.loss, (restorer.backbone.output - (x_1 - x_0)).square().mean())


def test_the_draws_at_the_start_may_have_their_own_error(restorer, batch):
    time = Uniform(start_share=0.5)
    term = FlowMatching(time, SquaredError(), LogSquaredError(), start_weight=0.3)
    value = call(term, restorer, batch, fold("step", batch.index))
    t, square, _ = by_hand(restorer, batch, 0.3)
    assert 0 < (t == 0).sum() < len(t)
    expected = torch.where(t == 0, 0.3 * (square + 1e-4).log(), square).mean()
    torch.testing.assert_close(value.loss, expected, rtol=1e-4, atol=1e-5)


def test_several_draws_share_one_encoding_and_average(restorer, batch):
    value = call(FlowMatching(Uniform(0.0), SquaredError(), draws=3), restorer, batch, fold("step", batch.index))
    calls = list(restorer.backbone.calls)
    assert restorer.backbone.encoded == 1 and len(calls) == 3
    # Together their times are equidistant, and their noise differs.
    times = torch.cat([t for _, t in calls]).sort().values
    torch.testing.assert_close(times.diff(), torch.full((3 * len(batch) - 1,), 1 / (3 * len(batch))))
    squares, noises = [], []
    for one in calls:
        restorer.backbone.calls = [one]
        _, square, noise = by_hand(restorer, batch, 0.3)
        squares.append(square.mean())
        noises.append(noise)
    torch.testing.assert_close(value.loss, torch.stack(squares).mean(), rtol=1e-4, atol=0)
    assert (noises[0] - noises[1]).std() > 1


def test_velocity_errors_are_logged_by_time():
    batch = make_batch(80, size=8)
    restorer = restorer_of(batch)
    log = call(FlowMatching(Uniform(0.1), SquaredError(), bins=4), restorer, batch, fold("step", batch.index)).log
    t, square, _ = by_hand(restorer, batch, 0.3)
    expected = {"velocity_t0": square[t == 0].mean()}
    for low in (0.0, 0.25, 0.5, 0.75):
        expected[f"velocity_t{low:.2f}-{low + 0.25:.2f}"] = square[(t > 0) & (t >= low) & (t < low + 0.25)].mean()
    assert log.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(log[name], value, rtol=1e-3, atol=0)


def test_the_draws_follow_the_keys_alone(batch, restorer):
    term = FlowMatching(Uniform(), SquaredError())
    first, again, other = (call(term, restorer, batch, fold(step, batch.index)).loss for step in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.parametrize(
    "term", [Regression(SquaredError()), FlowMatching(Uniform(), SquaredError(), LogSquaredError())], ids=["r", "fm"]
)
def test_a_term_reaches_every_parameter_of_a_backbone(term, batch):
    restorer = Restorer(Plain(), Degraded(SIGMA), Euler())
    call(term, restorer, batch, fold("step", batch.index)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in restorer.parameters())
