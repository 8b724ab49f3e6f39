"""Losses against values computed here from the formulas, and the gradients that they may and may not send."""

import math

import pytest
import torch
from torch import Tensor, nn

from restoration.backbone import Backbone, Context, DamageEstimate, Encoder, ResNetUNet
from restoration.batch import Batch
from restoration.flow import Degraded, Uniform
from restoration.keyed import fold, normal
from restoration.objective import (
    AdaptiveSquaredError,
    DamageSupervision,
    FlowMatching,
    LogSquaredError,
    Objective,
    PixelError,
    RegionLogSquaredError,
    Regression,
    SquaredError,
    Term,
    TermValue,
)
from restoration.restorer import Restorer
from restoration.sampler import Euler

SIGMA = 0.5


def make_batch(count: int = 6, size: int = 32) -> Batch:
    clean = torch.rand(count, 3, size, size)
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    mask[:, :, 4:12, 6:14] = True
    degraded = (clean * 0.9 + 0.03).masked_fill(mask, 0.0)
    return Batch(clean, degraded, mask, torch.rand(count), torch.arange(count))


class Fixed(Backbone):
    """Answers with a fixed picture for each image, whatever it is asked; it remembers what it was asked."""

    stride = 1

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.encoded = 0

    def encode(self, degraded: Tensor) -> Context:
        self.encoded += 1
        logit = torch.linspace(-2, 2, degraded.shape[-1]).expand_as(degraded[:, :1])
        estimate = DamageEstimate(logit, torch.linspace(-4, -1, len(degraded)))
        return Context(degraded, degraded, torch.full_like(degraded[:, :1], 0.4), None, estimate)

    def forward(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        self.asked.append((x_t.detach(), t))
        return self.answer


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture
def restorer(batch: Batch) -> Restorer:
    return Restorer(Fixed(torch.randn_like(batch.clean)), Degraded(SIGMA), Euler())


def call(term: Term, restorer: Restorer, batch: Batch, keys: Tensor) -> TermValue:
    return term(restorer, batch, restorer.encode(batch.degraded), keys)


NO_HOLE = torch.zeros(4, 1, 8, 8, dtype=torch.bool)


def test_the_regions_have_a_logarithm_each_and_an_absent_one_none():
    prediction, target = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    mask = NO_HOLE.clone()
    mask[0, :, 2:5, 1:7] = True
    mask[1] = True
    square = (prediction - target).square()
    inside, outside = square[0][:, mask[0, 0]].mean(), square[0][:, ~mask[0, 0]].mean()
    expected = torch.stack([(inside.log() + outside.log()) / 2, *(image.mean().log() for image in square[1:])])
    torch.testing.assert_close(RegionLogSquaredError(floor=0.0)(prediction, target, mask), expected)


def test_squared_errors_are_per_image():
    prediction, target = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    expected = torch.stack([((p - t) ** 2).sum() / p.numel() for p, t in zip(prediction, target, strict=True)])
    torch.testing.assert_close(SquaredError()(prediction, target, NO_HOLE), expected)
    torch.testing.assert_close(LogSquaredError(floor=0.0)(prediction, target, NO_HOLE), expected.log())
    torch.testing.assert_close(LogSquaredError(floor=0.01)(prediction, target, NO_HOLE), (expected + 0.01).log())


def test_the_log_error_is_the_psnr_and_finite_on_a_perfect_image():
    clean = torch.rand(2, 3, 8, 8)
    restored = clean + torch.tensor([0.1, 0.01])[:, None, None, None]
    # In [−1, 1] differences are doubled: PSNR = −10·log10(MSE / 4).
    error = LogSquaredError(floor=0.0)(2 * restored - 1, 2 * clean - 1, NO_HOLE[:2])
    torch.testing.assert_close(
        -10 * (error / math.log(10) - math.log10(4)), torch.tensor([20.0, 40.0]), rtol=1e-4, atol=0
    )
    assert LogSquaredError()(clean, clean, NO_HOLE[:2]).tolist() == pytest.approx([math.log(1e-4)] * 2)


def test_regression_is_the_error_of_the_prediction_at_the_start(restorer, batch):
    keys = fold("step", batch.index)
    value = call(Regression(SquaredError()), restorer, batch, keys)
    # x̂ = y + scale · answer.
    prediction = 2 * batch.degraded - 1 + 0.4 * restorer.backbone.answer
    torch.testing.assert_close(value.loss, (prediction - (2 * batch.clean - 1)).square().mean())
    ((evidence, t),) = restorer.backbone.asked
    # At t = 0 nothing is told beyond the degraded image, whatever the noise.
    assert not t.any() and not evidence.any()


def by_hand(restorer: Restorer, batch: Batch, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Times, the velocity's squared error per image, and the path's noise, from what the backbone was asked."""
    ((evidence, t),) = restorer.backbone.asked
    y, x_1, late = 2 * batch.degraded - 1, 2 * batch.clean - 1, t[:, None, None, None]
    # x̂ = y + scale · answer; its error is the velocity's times 1 − t.
    error = (y + 0.4 * restorer.backbone.answer - x_1) / (1 - late).clamp(min=floor)
    told = evidence * ((late * 0.4) ** 2 + ((1 - late) * SIGMA) ** 2) / (late * 0.4)
    noise = (told - late * (x_1 - y)) / ((1 - late) * SIGMA)
    return t, error.square().mean(dim=(1, 2, 3)).detach(), noise


def test_flow_matching_is_the_error_of_the_velocity(restorer, batch):
    value = call(FlowMatching(Uniform(), SquaredError(), floor=0.2), restorer, batch, fold("step", batch.index))
    t, square, noise = by_hand(restorer, batch, 0.2)
    torch.testing.assert_close(value.loss, square.mean(), rtol=1e-4, atol=0)
    # The path's noise is the keyed one.
    expected = normal(fold(fold("step", batch.index), "noise", 0), (3, 32, 32))
    inside = (t > 0.05) & (t < 0.9)
    assert inside.any()
    torch.testing.assert_close(noise[inside], expected[inside], atol=1e-3, rtol=0)


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
    asked = list(restorer.backbone.asked)
    assert restorer.backbone.encoded == 1 and len(asked) == 3
    # Together they are one comb of times, and their noise differs.
    times = torch.cat([t for _, t in asked]).sort().values
    torch.testing.assert_close(times.diff(), torch.full((3 * len(batch) - 1,), 1 / (3 * len(batch))))
    squares, noises = [], []
    for one in asked:
        restorer.backbone.asked = [one]
        _, square, noise = by_hand(restorer, batch, 0.3)
        squares.append(square.mean())
        noises.append(noise)
    torch.testing.assert_close(value.loss, torch.stack(squares).mean(), rtol=1e-4, atol=0)
    assert (noises[0] - noises[1]).std() > 1


def test_adaptive_weights_interpolate_between_the_squared_error_and_its_logarithm():
    prediction, target = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 8, 8)

    def gradient(error: PixelError) -> Tensor:
        return torch.autograd.grad(error(prediction, target, NO_HOLE).sum(), prediction)[0]

    floor = 0.02
    torch.testing.assert_close(gradient(AdaptiveSquaredError(0.0, floor)), gradient(SquaredError()))
    torch.testing.assert_close(gradient(AdaptiveSquaredError(1.0, floor)), gradient(LogSquaredError(floor)))
    half = gradient(AdaptiveSquaredError(0.5, floor))
    square = (prediction - target).square().mean(dim=(1, 2, 3), keepdim=True).detach()
    torch.testing.assert_close(half, gradient(SquaredError()) / (square + floor).sqrt())


def test_velocity_errors_are_logged_by_time():
    batch = make_batch(80, size=8)
    restorer = Restorer(Fixed(torch.randn_like(batch.clean)), Degraded(SIGMA), Euler())
    log = call(FlowMatching(Uniform(0.1), SquaredError(), bins=4), restorer, batch, fold("step", batch.index)).log
    t, square, _ = by_hand(restorer, batch, 0.05)
    expected = {"velocity_t0": square[t == 0].mean()}
    for low in (0.0, 0.25, 0.5, 0.75):
        expected[f"velocity_t{low:.2f}-{low + 0.25:.2f}"] = square[(t > 0) & (t >= low) & (t < low + 0.25)].mean()
    assert log.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(log[name], value, rtol=1e-3, atol=0)


def test_damage_supervision_is_cross_entropy_and_squared_log_error(restorer, batch):
    value = call(DamageSupervision(), restorer, batch, batch.index)
    chance = torch.sigmoid(torch.linspace(-2, 2, 32)).expand_as(batch.mask)
    hole = -(torch.where(batch.mask, chance, 1 - chance)).log().mean()
    errors = []
    for clean, degraded, mask in zip(batch.clean, batch.degraded, batch.mask, strict=True):
        known = ~mask[0]
        square = (2 * (clean - degraded)[:, known]).square().mean().item()
        errors.append(0.5 * math.log(square + (1 / 255) ** 2))
    error = (torch.linspace(-4, -1, 6) - torch.tensor(errors)).square().mean()
    torch.testing.assert_close(value.loss, hole + error, rtol=1e-4, atol=0)
    torch.testing.assert_close(sum(value.log.values()), value.loss)


def test_damage_supervision_is_finite_on_intact_and_on_wholly_erased_images(restorer, batch):
    intact = Batch(batch.clean, batch.clean, ~batch.mask & batch.mask, batch.severity, batch.index)
    lost = Batch(batch.clean, batch.clean * 0, batch.mask | ~batch.mask, batch.severity, batch.index)
    for extreme in (intact, lost):
        assert call(DamageSupervision(), restorer, extreme, batch.index).loss.isfinite()


def test_terms_add_up_with_their_weights_on_one_encoding(restorer, batch):
    terms = {"regression": Regression(SquaredError()), "damage": DamageSupervision()}
    keys = fold("step", batch.index)
    total, log = Objective(terms, {"damage": 0.25})(restorer, batch, keys)
    assert restorer.backbone.encoded == 1
    alone = {name: call(term, restorer, batch, fold(keys, name)).loss for name, term in terms.items()}
    torch.testing.assert_close(total, alone["regression"] + 0.25 * alone["damage"])
    for name, loss in alone.items():
        torch.testing.assert_close(log[name], loss)
    assert not any(value.requires_grad for value in log.values()) and total.requires_grad
    unweighted, _ = Objective(terms)(restorer, batch, keys)
    torch.testing.assert_close(unweighted, sum(alone.values()))


def test_a_weight_without_a_term_is_refused():
    with pytest.raises(ValueError, match="objective.weights names .'regresion'.*'regression'"):
        Objective({"regression": Regression(SquaredError())}, {"regresion": 1.0})


def test_the_draws_follow_the_keys_alone(batch, restorer):
    term = FlowMatching(Uniform(), SquaredError())
    first, again, other = (call(term, restorer, batch, fold(step, batch.index)).loss for step in (1, 1, 2))
    assert first == again and first != other


@pytest.fixture
def network() -> Restorer:
    backbone = ResNetUNet(Encoder("test_resnet", "random"), widths=(16, 16, 24, 24), depth=1, embedding=32)
    # The last layers are born zero, and would stop every gradient.
    nn.init.normal_(backbone.head.weight, std=0.1)
    nn.init.normal_(backbone.linear.weight, std=0.1)
    nn.init.normal_(backbone.hole.network[-2].weight, std=0.1)
    return Restorer(backbone, Degraded(SIGMA), Euler())


def gradients(network: Restorer, batch: Batch, terms: dict[str, Term]) -> dict[str, float]:
    """The gradient's size, by parameter of the heads that estimate the damage."""
    network.zero_grad()
    Objective(terms)(network, batch, fold("step", batch.index))[0].backward()
    heads = nn.ModuleDict({"hole": network.backbone.hole, "error": network.backbone.error})
    return {name: 0.0 if p.grad is None else p.grad.abs().sum().item() for name, p in heads.named_parameters()}


@pytest.mark.parametrize(
    "term", [Regression(SquaredError()), FlowMatching(Uniform(), SquaredError(), LogSquaredError())], ids=["r", "fm"]
)
def test_the_restoration_never_reaches_the_damage_estimate(network, batch, term):
    assert set(gradients(network, batch, {"restoration": term}).values()) == {0.0}
    assert network.backbone.head.weight.grad.abs().sum() > 0
    assert network.backbone.detail[1].weight.grad.abs().sum() > 0


def test_damage_supervision_does_reach_it(network, batch):
    reached = gradients(network, batch, {"damage": DamageSupervision()})
    assert all(value > 0 for value in reached.values()), reached
    assert network.backbone.head.weight.grad is None


def test_the_hole_is_learnt_from_its_target():
    """A few steps of the damage term alone find white rectangles, which are not what the estimate starts from."""
    batch = make_batch(8)
    batch.clean.mul_(0.8)
    batch.degraded.copy_(batch.clean.masked_fill(batch.mask, 1.0))
    backbone = ResNetUNet(Encoder("test_resnet", "random"), widths=(16, 16, 24, 24), depth=1, embedding=32)
    restorer = Restorer(backbone, Degraded(SIGMA), Euler())
    assert not (restorer.encode(batch.degraded).damage.hole_logit > 0).any()
    optimizer = torch.optim.Adam(backbone.parameters(), 1e-2)
    objective = Objective({"damage": DamageSupervision()})
    for _ in range(40):
        optimizer.zero_grad()
        objective(restorer, batch, batch.index)[0].backward()
        optimizer.step()
    found = restorer.encode(batch.degraded).damage.hole_logit > 0
    assert (found == batch.mask).float().mean() > 0.97
