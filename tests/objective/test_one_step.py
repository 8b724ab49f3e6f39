"""Terms of intervals: exact where the average velocity is known, flow matching at r = t, and stopped targets."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from gaussian import exact_map, gaussian_batch
from helpers import encoder_file
from torch import Tensor

from restoration.backbone import Encoder, ResNetUNet, ResNetUNetState
from restoration.batch import Batch
from restoration.errors import UserError
from restoration.flow import CleanPrediction, Degraded, Noise, Uniform, VelocityPrediction, interpolate, to_model
from restoration.keyed import fold
from restoration.objective import (
    AdaptiveSquaredError,
    FlowMatching,
    Intervals,
    IntervalSplitting,
    MeanFlow,
    Objective,
    SquaredError,
    Term,
    Trajectory,
)
from restoration.restorer import Restorer
from restoration.sampler import Euler, Exponential
from restoration.sampler import MeanFlow as Steps

INTERVALS = Intervals(Uniform(0.0), whole_share=0.25)
predictions = pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])
sources = pytest.mark.parametrize("source", [Degraded(0.5), Noise()], ids=["degraded", "noise"])


def terms(error: Any = None) -> dict[str, Term]:
    error = error or SquaredError()
    return {
        "trajectory": Trajectory(Exponential(nfe=200, warp=(1.4, 3.6), keep=0), error),
        "mean_flow": MeanFlow(INTERVALS, error),
        "splitting": IntervalSplitting(INTERVALS, error),
    }


def unet(kind: type[ResNetUNet] = ResNetUNet, weights: str = "random", prediction: type = CleanPrediction) -> Restorer:
    """In training, with weights that all act."""
    backbone = kind(Encoder("test_resnet", weights), (16,) * 4, depth=1, embedding=32, two_times=True)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Restorer(backbone, Noise(), Steps(), prediction)


@predictions
@sources
@pytest.mark.parametrize("name, tolerance", [("trajectory", 1e-4), ("splitting", 1e-10)])
def test_the_exact_average_velocity_agrees_with_itself(source, prediction, name, tolerance):
    """Between its parts, up to rounding; with the trajectory up to the error of the solver."""
    batch, restorer, term = gaussian_batch(), exact_map(source, prediction), terms()[name]
    keys = fold("step", batch.index)
    value = term(restorer.field(batch.degraded), batch, keys)
    assert value.loss < tolerance
    assert value.log[f"{name}_ratio"] == pytest.approx(1, abs=0.01)
    with torch.no_grad():
        restorer.backbone.off.fill_(0.3)
    assert term(restorer.field(batch.degraded), batch, keys).loss > max(100 * tolerance, 1e-5)


@predictions
@sources
@pytest.mark.parametrize("tangent", ["network", "conditional"])
def test_mean_flow_of_the_exact_average_is_the_exact_velocity(source, prediction, tangent):
    """Along the marginal velocity u − (r − t)·du/dt is the velocity itself, and the loss is flow matching's."""
    batch, restorer = gaussian_batch(), exact_map(source, prediction)
    keys, field = fold("step", batch.index), restorer.field(batch.degraded)
    value = MeanFlow(INTERVALS, SquaredError(), tangent)(field, batch, keys)
    t, _ = INTERVALS(fold(keys[0], "time"), len(batch))
    x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
    velocity, target = field.training_pair(x_0, x_1, interpolate(x_0, x_1, t), t)
    # The network's own output hides x_t − E[x_t] at t = 0 only from predictions of the velocity.
    expected = (velocity - target).square().mean()
    if tangent == "network":
        torch.testing.assert_close(value.loss, expected, rtol=1e-4, atol=1e-6)
    else:  # its variance is in the derivative
        assert abs(value.loss - expected) > 1e-4


def test_the_gradient_of_every_term_is_zero_at_the_exact_average():
    """Of the mean flow on average over the noise, so that it is compared with its spread over batches."""
    restorer = exact_map(Noise())
    for name, term in terms().items():
        gradients = []
        for step in range(24):
            batch = gaussian_batch(8, 8)
            keys = fold("step", step, batch.index)
            loss = term(restorer.field(batch.degraded), replace(batch, clean=batch.clean), keys).loss
            gradients.append(torch.autograd.grad(loss, restorer.backbone.off)[0])
        values = torch.stack(gradients)
        assert values.mean().abs() < 4 * values.std() / len(values) ** 0.5 + 2e-3, name
        with torch.no_grad():
            restorer.backbone.off.fill_(0.5)
        moved = torch.autograd.grad(term(restorer.field(batch.degraded), batch, keys).loss, restorer.backbone.off)[0]
        assert moved > 5e-3, name
        with torch.no_grad():
            restorer.backbone.off.zero_()


@predictions
@pytest.mark.parametrize("error", [SquaredError(), AdaptiveSquaredError(1.0)], ids=["squared", "adaptive"])
def test_without_length_mean_flow_is_flow_matching_to_the_bit(prediction, error):
    """The loss and every gradient, on a U-Net, at the same times and noise."""
    batch, restorer = gaussian_batch(4, 16), unet(prediction=prediction)
    restorer.eval()
    intervals, keys = Intervals(Uniform(0.0), whole_share=0, equal_share=1), fold("step", batch.index)
    field = restorer.field(batch.degraded)
    loss = MeanFlow(intervals, error)(field, batch, keys).loss
    t, r = intervals(fold(keys[0], "time"), len(batch))
    assert torch.equal(t, r) and t.max() > 0.5
    x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
    velocity, target = field.training_pair(x_0, x_1, interpolate(x_0, x_1, t), t)
    expected = error(velocity, target, batch.mask).mean()
    assert torch.equal(loss, expected)
    own = {name: p for name, p in restorer.named_parameters() if "noise_stem" not in name and "length" not in name}
    pairs = [torch.autograd.grad(value, list(own.values()), retain_graph=True) for value in (loss, expected)]
    for name, one, other in zip(own, *pairs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", list(terms()))
def test_targets_are_stopped_and_the_stem_learns(name, monkeypatch):
    """One pass of the network has a gradient, whatever the term asks of it beside; all new weights get one."""
    batch, restorer = gaussian_batch(4, 16), unet()
    field = restorer.eval().field(batch.degraded)
    outputs: list[Tensor] = []
    watched = replace(field, network=lambda *given: outputs.append(field.network(*given)) or outputs[-1])
    term = Trajectory(Exponential(nfe=3), SquaredError()) if name == "trajectory" else terms()[name]
    term(watched, batch, fold("step", batch.index)).loss.backward()
    assert len(outputs) == {"trajectory": 4, "mean_flow": 3, "splitting": 3}[name]
    assert [output.requires_grad for output in outputs] == [False] * (len(outputs) - 1) + [True]
    new = [p for name, p in restorer.named_parameters() if "noise_stem" in name or "length" in name]
    assert len(new) == 5 and all(p.grad is not None and p.grad.abs().max() > 0 for p in new)


@pytest.mark.parametrize("kind", [ResNetUNet, ResNetUNetState])
def test_the_derivative_is_taken_in_float32_of_an_autocast_network(kind, tmp_path):
    batch, restorer = gaussian_batch(4, 16), unet(kind, str(encoder_file(tmp_path))).train()
    term, keys = MeanFlow(INTERVALS, SquaredError()), fold("step", batch.index)
    x_t, t, r = torch.randn(4, 3, 16, 16), torch.tensor([0.0, 0.2, 0.4, 0.6]), torch.tensor([1.0, 0.3, 0.9, 0.8])
    exact = term.derivative(restorer.field(batch.degraded), x_t, t, r, x_t)
    with torch.autocast("cpu", torch.bfloat16):
        field = restorer.field(batch.degraded)
        mixed = term.derivative(field, x_t, t, r, x_t)
        term(field, batch, keys).loss.backward()
    assert mixed.dtype == torch.float32 and (mixed - exact).norm() < 0.03 * exact.norm()
    assert restorer.backbone.noise_stem[1].weight.grad.isfinite().all()


def test_batch_statistics_in_training_have_no_derivative():
    batch, restorer = gaussian_batch(4, 16), unet(ResNetUNetState).train()
    with pytest.raises(UserError, match="objective MeanFlow: .* batch statistics .* objective=trajectory"):
        MeanFlow(INTERVALS, SquaredError())(restorer.field(batch.degraded), batch, fold("step", batch.index))


@pytest.mark.slow
def test_compiled_equals_eager():
    batch, restorer = gaussian_batch(2, 16), unet().eval()
    term, keys = MeanFlow(INTERVALS, SquaredError()), fold("step", batch.index)

    def step() -> tuple[Tensor, Tensor]:
        restorer.zero_grad()
        loss = term(restorer.field(batch.degraded), batch, keys).loss
        loss.backward()
        return loss.detach(), restorer.backbone.noise_stem[1].weight.grad.clone()

    eager, passes = step(), []

    def backend(graph: Any, inputs: Any) -> Any:
        passes.append(graph)
        return graph.forward

    restorer.backbone.compile(backend=backend)  # the derivative never reaches a backend; code generation takes minutes
    torch.testing.assert_close(step(), eager, rtol=1e-4, atol=1e-6)
    assert passes


@pytest.mark.parametrize("warmup, progress", [(0.5, 0.0), (0.5, 0.25), (0.0, 0.0)])
def test_the_derivative_enters_over_the_warmup(warmup, progress, monkeypatch):
    batch, restorer = gaussian_batch(4, 8), exact_map(Noise(), VelocityPrediction)
    field, keys = restorer.field(batch.degraded), fold("step", batch.index)
    monkeypatch.setattr(MeanFlow, "derivative", lambda self, field, x_t, *_: torch.full_like(x_t, 7.0))
    t, r = INTERVALS(fold(keys[0], "time"), 4)
    x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
    average, target = field.training_pair(x_0, x_1, interpolate(x_0, x_1, t), t, r)
    factor = 1.0 if not warmup else progress / warmup
    expected = (average - target - factor * 7 * (r - t)[:, None, None, None]).square().mean()
    loss = MeanFlow(INTERVALS, SquaredError(), warmup=warmup)(field, batch, keys, progress).loss
    torch.testing.assert_close(loss, expected)


def test_what_evaluations_the_terms_train():
    for name, term in terms().items():
        assert term.two_times and term.max_nfe is None, name
    whole = Objective({"one": MeanFlow(Intervals(Uniform(), whole_share=1.0), SquaredError())})
    with pytest.raises(UserError, match=r"nfe=2 is not possible; set evaluation.nfe=\[1\] sampler=mean_flow"):
        whole.check_nfe(2)
    to_end = Intervals(Uniform(), whole_share=0.25, end_share=0.75)
    assert (
        MeanFlow(to_end, SquaredError()).max_nfe
        == Trajectory(Euler(), SquaredError(), end_share=1.0, start_share=0.0).max_nfe
        == 1
    )
    flow = FlowMatching(Uniform(), SquaredError())
    Objective({"flow": flow, "one": Trajectory(Euler(), SquaredError(), whole_share=1.0)}).check_nfe(8)


def test_a_batch_of_several_ranks_has_the_draws_of_the_whole(monkeypatch):
    """Both halves, as ranks have them, give the loss of the whole batch."""
    batch, restorer = gaussian_batch(8, 8), exact_map(Noise())
    monkeypatch.setattr(Batch, "leading", lambda self, keys: fold("step", torch.arange(1))[0])
    with torch.no_grad():
        restorer.backbone.off.fill_(0.3)
    for name, term in terms().items():
        losses = []
        for first in (0, 4):
            parts = {key: v[first : first + 4] for key, v in vars(batch).items() if isinstance(v, Tensor)}
            part = Batch(**parts, place=(first, 8))
            losses.append(term(restorer.field(part.degraded), part, fold("step", part.index)).loss)
        whole = term(restorer.field(batch.degraded), batch, fold("step", batch.index)).loss
        torch.testing.assert_close(torch.stack(losses).mean(), whole, rtol=1e-5, atol=1e-8, msg=name)
