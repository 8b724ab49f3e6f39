"""A Gaussian world in which the flow is known in closed form, through the whole chain that restores.

Given the degraded image y, the clean image is N(μ(y), τ²) in each pixel. With x_t = (1 − t)·x_0 + t·x_1 and
x_0 = m(y) + σ·n, the exact prediction is

    E[x_1 | x_t, y] = μ + t·τ² / (t²·τ² + (1 − t)²·σ²) · (x_t − (1 − t)·m − t·μ).

The backbone below expresses it in the units of a network's output, so prediction, field and sampler are all covered.
One evaluation must return the posterior mean μ, many the posterior itself.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from gaussian import STD, TAU, Rough, posterior_mean
from torch import Tensor, nn

from restoration.backbone import Backbone
from restoration.batch import Batch
from restoration.estimator import Estimate, Estimator
from restoration.flow import (
    CleanPrediction,
    Degraded,
    InitialEstimate,
    Noise,
    Source,
    TimeSampler,
    VelocityPrediction,
    to_image,
    to_model,
)
from restoration.keyed import fold, normal
from restoration.objective import FlowMatching, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler, Exponential, Heun, Midpoint, Sampler

SOLVERS = [Euler, Midpoint, Heun, Exponential]
sources = pytest.mark.parametrize(
    "source", [Degraded(0.5), Degraded(0.2), Noise(), InitialEstimate(1.0)], ids=["degraded", "0.2", "noise", "initial"]
)
solvers = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)


class Exact(Backbone):
    """The exact prediction, for a source whose σ is known."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def encode(self, degraded: Tensor, estimate: Estimate) -> tuple[Tensor, Estimate]:
        return degraded, estimate

    def forward(self, x_in: Tensor, t: Tensor, features: tuple[Tensor, Estimate], r: Tensor | None = None) -> Tensor:
        y, estimate = features
        time, sigma = t[:, None, None, None], self.source.sigma(estimate)
        mean = posterior_mean(y)
        # Undo the preconditioning: the innovation t·(x_1 − initial) + (1 − t)·σ·n. At t = 0 it is not known.
        signal, noise = time * STD, (1 - time) * sigma
        innovation = x_in * (signal**2 + noise**2) / signal.clamp(min=1e-12)
        gain = time * TAU**2 / (time**2 * TAU**2 + (1 - time) ** 2 * sigma**2).clamp(min=1e-12)
        clean = mean + gain * (innovation + time * (estimate.initial - mean))
        return (clean - estimate.initial) / estimate.residual_std


def exact(source: Source, sampler: Sampler) -> Restorer:
    return Restorer(Exact(source), source, sampler, estimator=Rough())


def restore(source: Source, solver: Callable[[], Sampler], nfe: int, count: int = 12) -> tuple[Tensor, Tensor]:
    """Samples, and the mean they should have, in [−1, 1]."""
    degraded = torch.linspace(0.25, 0.7, count)[:, None, None, None].expand(-1, 3, 24, 24).contiguous()
    restored = exact(source, solver()).restore(degraded, fold("gaussian", torch.arange(count)), nfe).images
    assert restored.min() > 0 and restored.max() < 1, "a clamped sample would change the moments"
    return to_model(restored).double(), posterior_mean(to_model(degraded)).double()


@sources
@solvers
def test_one_evaluation_returns_the_posterior_mean(source, solver):
    restored, mean = restore(source, solver, nfe=1)
    torch.testing.assert_close(restored, mean, atol=1e-5, rtol=0)


@sources
@pytest.mark.parametrize(
    "solver, nfe", [(Euler, 19), (Midpoint, 16), (Heun, 16), (partial(Exponential, warp=(1.4, 3.6)), 16)]
)
def test_many_evaluations_return_the_posterior(source, solver, nfe):
    restored, mean = restore(source, solver, nfe)
    residual = restored - mean
    assert abs(residual.mean()) < 4.5 * TAU / residual.numel() ** 0.5 + 2e-4
    assert residual.std() / TAU == pytest.approx(1, abs=0.27 if solver is Euler else 0.12)


@pytest.mark.parametrize("source", [Degraded(0.5), Noise()], ids=["degraded", "noise"])
@solvers
def test_hundreds_of_evaluations_return_the_posterior(source, solver):
    restored, mean = restore(source, solver, nfe=200, count=4)
    assert (restored - mean).mean(dim=(1, 2, 3)).abs().max() < 0.012
    assert (restored - mean).std(dim=(1, 2, 3)).mean() / TAU == pytest.approx(1, abs=0.05)


def test_the_spread_grows_from_the_mean_to_a_sample():
    """No spread at one evaluation, the posterior's at many."""
    spread = []
    for nfe in (1, 2, 4, 8, 16):
        restored, mean = restore(Degraded(0.5), Euler, nfe)
        spread.append((restored - mean).std().item())
    assert spread[0] < 1e-5 and spread == sorted(spread) and 0.8 * TAU < spread[-1] < TAU


def test_more_evaluations_come_closer_to_the_exact_trajectory():
    """The flow carries x_0 to μ + τ·n: paired with its own noise, the solver's error falls with its order."""
    source = Degraded(0.5)
    restorer = exact(source, Midpoint())
    degraded, keys = torch.full((2, 3, 24, 24), 0.6), torch.arange(2)
    noise = (restorer.field(degraded).start(keys) - to_model(degraded)) / source.noise_level
    end = posterior_mean(to_model(degraded)) + TAU * noise
    errors = [
        (to_model(restorer.restore(degraded, keys, nfe).images) - end).square().mean().sqrt() for nfe in (2, 4, 8, 16)
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert errors[3] < 0.01


class At(TimeSampler):
    """Always the same time."""

    def __init__(self, t: float) -> None:
        super().__init__(start_share=float(t == 0))
        self.t = t

    def quantile(self, p: Tensor) -> Tensor:
        return torch.full_like(p, self.t)


class Linear(Backbone):
    """A linear function of its input and the degraded image, as the exact output is."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.zeros(3))

    def encode(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return degraded

    def forward(self, x_in: Tensor, t: Tensor, features: Tensor, r: Tensor | None = None) -> Tensor:
        return self.line[0] * x_in + self.line[1] * features + self.line[2]


@sources
@pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.85])
def test_the_objective_has_its_minimum_at_the_exact_prediction(source: Source, t: float, prediction):
    """Also where the weight of late times is limited."""
    index = torch.arange(16)
    degraded = torch.linspace(0.25, 0.7, 16)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    clean = to_image(posterior_mean(to_model(degraded)) + TAU * normal(fold("clean", index), (3, 32, 32)))
    batch = Batch(clean, degraded, torch.zeros(16, 1, 32, 32, dtype=torch.bool), torch.zeros(16), index)
    restorer = Restorer(Linear(), source, Euler(), prediction, Rough())
    term, keys, field = FlowMatching(At(t), SquaredError()), fold("step", index), restorer.field(degraded)
    optimizer = torch.optim.LBFGS(restorer.parameters(), lr=1, max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = term(field, batch, keys).loss
        value.backward()
        return value

    optimizer.step(loss)
    # Other noise than it was fitted to.
    times, other = torch.full((16,), t), fold("other", index)
    x_t = (1 - t) * field.start(other) + t * to_model(clean)
    expected = exact(source, Euler()).field(degraded).clean(x_t, times)
    torch.testing.assert_close(field.clean(x_t, times), expected, atol=0.01, rtol=0)


def test_regression_is_the_flow_without_noise():
    """σ = 0: one evaluation, the posterior mean, whatever the key."""
    source = Degraded(0.0)
    degraded = torch.rand(3, 3, 8, 8) * 0.5 + 0.25
    restorer = exact(source, Euler(nfe=1))
    first = restorer.restore(degraded, torch.arange(3)).images
    assert torch.equal(first, restorer.restore(degraded, torch.arange(3) + 7).images)
    torch.testing.assert_close(to_model(first), posterior_mean(to_model(degraded)), atol=1e-5, rtol=0)


class Certain(Estimator):
    """Expects no error anywhere."""

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        zero = torch.zeros_like(degraded[:, :1])
        return Estimate(degraded, zero, zero)


class Ones(Linear):
    """A network that would change every pixel."""

    def forward(self, x_in: Tensor, t: Tensor, features: Tensor, r: Tensor | None = None) -> Tensor:
        return torch.ones_like(x_in)


@solvers
@pytest.mark.parametrize("nfe", [1, 2, 8, 19])
@pytest.mark.parametrize("keep", [0.0, 0.15])
def test_an_intact_pixel_is_unchanged_at_every_nfe(solver, nfe, keep):
    """Where the estimator expects no error, sampling returns the degraded image."""
    degraded = torch.rand(2, 3, 8, 8)
    restorer = Restorer(Ones(), Degraded(0.5), solver(keep=keep), estimator=Certain())
    torch.testing.assert_close(restorer.restore(degraded, torch.arange(2), nfe).images, degraded, atol=1e-5, rtol=0)
