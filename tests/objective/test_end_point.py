"""Errors of the predicted clean image, against values computed here, and with a gradient that is not zero."""

from types import SimpleNamespace

import pytest
import torch
from helpers import Plain
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone import Encoder
from restoration.batch import Batch
from restoration.flow import Degraded, Uniform, interpolate, to_model
from restoration.keyed import fold
from restoration.objective import CharbonnierError, EndPoint, HuberError, PerceptualError, PixelError, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler

NO_HOLE = torch.zeros(2, 1, 32, 32, dtype=torch.bool)


def perceptual() -> PerceptualError:
    torch.manual_seed(1)
    return PerceptualError(Encoder("test_resnet", "random", "imagenet"))


ERRORS = {"charbonnier": CharbonnierError(), "huber": HuberError(), "perceptual": perceptual()}


def two(far: float = 1.0) -> tuple[Tensor, Tensor]:
    target = torch.rand(2, 3, 32, 32) * 2 - 1
    return target + far * torch.randn_like(target), target


def test_charbonnier_is_its_formula_and_between_squared_and_absolute():
    prediction, target = two()
    expected = [((p - t).double().square() + 0.01).sqrt().sub(0.1).mean() for p, t in zip(prediction, target)]  # noqa: B905
    torch.testing.assert_close(CharbonnierError(0.1)(prediction, target, NO_HOLE), torch.stack(expected).float())
    small = 1e-3 * (prediction - target)
    half_square = (small.square() / 2 / 0.1).mean(dim=(1, 2, 3))
    torch.testing.assert_close(CharbonnierError(0.1)(small, 0 * small, NO_HOLE), half_square, rtol=1e-2, atol=0)
    absolute = (prediction - target).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(CharbonnierError(1e-6)(prediction, target, NO_HOLE), absolute, rtol=1e-4, atol=0)


def test_huber_is_its_formula():
    prediction, target = two()
    distance = (prediction - target).abs()
    expected = torch.where(distance < 0.3, distance.square() / 2, 0.3 * (distance - 0.15)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(HuberError(0.3)(prediction, target, NO_HOLE), expected)


def test_the_perceptual_distance_is_its_formula():
    prediction, target = two()
    error = perceptual()
    expected = torch.zeros(2)
    maps = list(zip(error.encoder(prediction), error.encoder(target), strict=True))
    for own, other in maps:
        for row in range(2):
            a, b = (x[row] / x[row].square().sum(0).sqrt().clamp(min=1e-12) for x in (own, other))
            expected[row] += ((a - b) ** 2).sum(0).mean() / len(maps)
    torch.testing.assert_close(error(prediction, target, NO_HOLE), expected)
    assert torch.equal(error(target, target, NO_HOLE), torch.zeros(2))


def test_the_encoder_of_the_perceptual_distance_stays_as_it_is():
    error = perceptual().train()
    before = {name: value.clone() for name, value in error.state_dict().items()}
    prediction, target = two()
    error(prediction.requires_grad_(), target, NO_HOLE).sum().backward()
    assert all(parameter.grad is None for parameter in error.parameters())
    assert all(torch.equal(before[name], value) for name, value in error.state_dict().items())


@pytest.mark.parametrize("name", ERRORS)
def test_the_gradient_leads_to_the_target(name: str):
    prediction, target = two(0.3)
    error: PixelError = ERRORS[name]
    start = error(prediction, target, NO_HOLE).sum()
    for _ in range(20):
        prediction = prediction.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(error(prediction, target, NO_HOLE).sum(), prediction)
        assert (gradient.flatten(1).norm(dim=1) > 0).all()
        prediction = prediction - 0.3 * F.normalize(gradient.flatten(1)).view_as(gradient)
    assert error(prediction, target, NO_HOLE).sum() < start


@pytest.fixture
def batch() -> Batch:
    clean, mask = torch.rand(4, 3, 32, 32), torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    return Batch(clean, 0.9 * clean, mask, torch.rand(4), torch.arange(4))


def test_the_error_is_that_of_the_clean_image_at_the_drawn_time(batch: Batch):
    restorer, keys = Restorer(Plain(), Degraded(0.5), Euler()), fold("step", batch.index)
    field, term = restorer.field(batch.degraded), EndPoint(SquaredError(), Uniform(start_share=0.5))
    t = Uniform(start_share=0.5)(fold(batch.leading(keys), "time"), 4)
    assert (t == 0).any() and (t > 0).any()
    x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
    expected = (field.clean(interpolate(x_0, x_1, t), t) - x_1).square().mean()
    torch.testing.assert_close(term(field, batch, keys).loss, expected)


@pytest.mark.parametrize("name", ERRORS)
def test_the_network_gets_a_gradient(batch: Batch, name: str):
    backbone = Plain()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.1)
    restorer = Restorer(backbone, Degraded(0.5), Euler())
    EndPoint(ERRORS[name], Uniform())(restorer.field(batch.degraded), batch, batch.index).loss.backward()
    assert sum(parameter.grad.abs().sum() for parameter in backbone.parameters() if parameter.grad is not None) > 0


def test_over_an_interval_the_error_is_that_of_the_step_to_the_end(batch: Batch):
    """A field whose average velocity is 2 over any interval."""
    keys, x_1 = fold("step", batch.index), to_model(batch.clean)
    start = torch.randn_like(x_1)
    field = SimpleNamespace(
        start=lambda keys: start, displacement=lambda x, t, r: 2 * (r - t)[:, None, None, None] * torch.ones_like(x)
    )
    t = Uniform()(fold(batch.leading(keys), "time"), 4)
    expected = (interpolate(start, x_1, t) + 2 * (1 - t)[:, None, None, None] - x_1).square().mean()
    loss = EndPoint(SquaredError(), Uniform(), two_times=True)(field, batch, keys).loss  # type: ignore[arg-type]
    torch.testing.assert_close(loss, expected)
