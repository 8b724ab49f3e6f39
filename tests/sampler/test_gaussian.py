"""A Gaussian world in which the flow is known in closed form, through the whole chain that restores.

Given the degraded image y, the clean image is N(μ(y), τ²) in each pixel. With x_t = (1 − t)·x_0 + t·x_1 and
x_0 = m(y) + σ·n, the exact prediction is

    E[x_1 | x_t, y] = μ + t·τ² / (t²·τ² + (1 − t)²·σ²) · (x_t − (1 − t)·m − t·μ).

The backbone below turns it into the units in which a network answers, so predict, velocity and sampler are all met.
One evaluation must return the posterior mean μ, many the posterior itself.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from restoration.backbone import Backbone, Context, DamageEstimate
from restoration.batch import Batch
from restoration.flow import Base, Degraded, Noise, Source, TimeSampler, Velocity, to_image, to_model
from restoration.keyed import fold, normal
from restoration.objective import FlowMatching, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler, Exponential, Heun, Midpoint, Sampler

TAU = 0.1
BASE, SCALE = 0.7, 0.3  # the restorer's guess of the clean image, and of its error, need not be right
SOLVERS = [Euler, Midpoint, Heun, Exponential]
sources = pytest.mark.parametrize(
    "source", [Degraded(0.5), Degraded(0.2), Noise(), Base(1.0)], ids=["degraded", "0.2", "noise", "base"]
)
solvers = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)


def posterior_mean(degraded: Tensor) -> Tensor:
    return 0.5 * degraded + 0.1


class Exact(Backbone):
    stride = 1

    def encode(self, degraded: Tensor) -> Context:
        one = torch.ones_like(degraded[:, :1])
        return Context(degraded, BASE * degraded, SCALE * one, None, DamageEstimate(one, one[:, 0, 0, 0]))

    def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
        y, time, sigma = context.degraded, t[:, None, None, None], context.deviation
        mean = posterior_mean(y)
        # Undo `evidence`: what x_t tells beyond the base b, t·(x_1 − b) + (1 − t)·σ·n; at t = 0 nothing is told.
        signal, noise = time * SCALE, (1 - time) * sigma
        told = evidence * (signal**2 + noise**2) / signal.clamp(min=1e-12)
        gain = time * TAU**2 / (time**2 * TAU**2 + (1 - time) ** 2 * sigma**2).clamp(min=1e-12)
        clean = mean + gain * (told + time * (context.base - mean))
        return (clean - context.base) / context.scale


def restore(source: Source, solver: Callable[[], Sampler], nfe: int, count: int = 12) -> tuple[Tensor, Tensor]:
    """Samples, and the mean they should have, in [−1, 1]."""
    degraded = torch.linspace(0.25, 0.7, count)[:, None, None, None].expand(-1, 3, 24, 24).contiguous()
    restorer = Restorer(Exact(), source, solver())
    restored = restorer.restore(degraded, fold("gaussian", torch.arange(count)), nfe)
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
    """K is a dial: no spread at one evaluation, the posterior's at many."""
    spread = []
    for nfe in (1, 2, 4, 8, 16):
        restored, mean = restore(Degraded(0.5), Euler, nfe)
        spread.append((restored - mean).std().item())
    assert spread[0] < 1e-5 and spread == sorted(spread) and 0.8 * TAU < spread[-1] < TAU


def test_more_evaluations_come_closer_to_the_exact_trajectory():
    """The flow carries x_0 to μ + τ·n: paired with its own noise, the solver's error falls with its order."""
    source = Degraded(0.5)
    restorer = Restorer(Exact(), source, Midpoint())
    degraded, keys = torch.full((2, 3, 24, 24), 0.6), torch.arange(2)
    context = restorer.encode(degraded)
    noise = (restorer.start(context.mean, context.deviation, keys) - to_model(degraded)) / source.sigma
    exact = posterior_mean(to_model(degraded)) + TAU * noise
    errors = [(to_model(restorer.restore(degraded, keys, nfe)) - exact).square().mean().sqrt() for nfe in (2, 4, 8, 16)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert errors[3] < 0.01


class At(TimeSampler):
    """Always the same time."""

    def __init__(self, t: float) -> None:
        super().__init__(start_share=float(t == 0))
        self.t = t

    def law(self, quantile: Tensor) -> Tensor:
        return torch.full_like(quantile, self.t)


class Linear(Exact):
    """Answers with a line through what it is told, which the exact answer is, too."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.zeros(3))

    def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
        return self.line[0] * evidence + self.line[1] * context.degraded + self.line[2]


@sources
@pytest.mark.parametrize("prediction", [None, Velocity()], ids=["clean", "velocity"])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.85])
def test_the_objective_is_least_at_the_exact_prediction(source: Source, t: float, prediction):
    """Also where the weight of late times is held."""
    index = torch.arange(16)
    degraded = torch.linspace(0.25, 0.7, 16)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    clean = to_image(posterior_mean(to_model(degraded)) + TAU * normal(fold("clean", index), (3, 32, 32)))
    batch = Batch(clean, degraded, torch.zeros(16, 1, 32, 32, dtype=torch.bool), torch.zeros(16), index)
    restorer = Restorer(Linear(), source, Euler(), prediction)
    term, keys, context = FlowMatching(At(t), SquaredError()), fold("step", index), restorer.encode(degraded)
    optimizer = torch.optim.LBFGS(restorer.parameters(), lr=1, max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = term(restorer, batch, context, keys).loss
        value.backward()
        return value

    optimizer.step(loss)
    # Other noise than it was fitted to.
    times, other = torch.full((16,), t), fold("other", index)
    x_t = (1 - t) * restorer.start(context.mean, context.deviation, other) + t * to_model(clean)
    learnt = restorer.predict(x_t, times, context)
    exact = Restorer(Exact(), source, Euler()).predict(x_t, times, context)
    torch.testing.assert_close(learnt, exact, atol=0.01, rtol=0)


def test_regression_is_the_same_object_with_no_noise():
    """σ = 0: one evaluation, the posterior mean, whatever the key."""
    source = Degraded(0.0)
    degraded = torch.rand(3, 3, 8, 8) * 0.5 + 0.25
    restorer = Restorer(Exact(), source, Euler(nfe=1))
    first = restorer.restore(degraded, torch.arange(3))
    assert torch.equal(first, restorer.restore(degraded, torch.arange(3) + 7))
    torch.testing.assert_close(to_model(first), posterior_mean(to_model(degraded)), atol=1e-5, rtol=0)


def test_an_intact_pixel_stays_at_every_count():
    """Where the backbone expects no error, sampling returns the degraded image."""

    class Intact(Exact):
        def encode(self, degraded: Tensor) -> Context:
            context = super().encode(degraded)
            return replace(context, base=degraded, scale=torch.zeros_like(context.scale))

        def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
            return torch.ones_like(evidence)

    source = Degraded(0.5)
    degraded = torch.rand(2, 3, 8, 8)
    for solver in SOLVERS:
        for nfe in (1, 2, 8, 19):
            restored = Restorer(Intact(), source, solver()).restore(degraded, torch.arange(2), nfe)
            torch.testing.assert_close(restored, degraded, atol=1e-5, rtol=0)
