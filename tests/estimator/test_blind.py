"""The blind estimator: where the hole is, how large the rest of the error is, and what a user's mask changes."""

import math

import pytest
import torch
from helpers import Plain
from torch import Tensor, nn

from restoration.backbone import Encoder, ResNetUNet
from restoration.batch import Batch
from restoration.estimator import Blind
from restoration.estimator.blind import BlindEstimate, fill
from restoration.flow import Degraded, InitialEstimate, Uniform
from restoration.keyed import fold
from restoration.objective import FlowMatching, LogSquaredError, Objective, Regression, SquaredError, Term, TermValue
from restoration.restorer import Restorer
from restoration.sampler import Euler


def make_batch(count: int = 6, size: int = 32) -> Batch:
    clean = torch.rand(count, 3, size, size)
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    mask[:, :, 4:12, 6:14] = True
    degraded = (clean * 0.9 + 0.03).masked_fill(mask, 0.0)
    return Batch(clean, degraded, mask, torch.rand(count), torch.arange(count))


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture
def blind() -> Blind:
    """With random weights also in the layers that are zero-initialised, which would stop the gradient."""
    blind = Blind(16).eval()
    for layer in (blind.damage.hole[1], blind.damage.error[2]):
        nn.init.normal_(layer.weight, std=0.1)
    return blind


def loss_of(batch: Batch, estimate: BlindEstimate, estimator: Blind) -> dict[str, Tensor]:
    return estimator.loss(estimate, 2 * batch.degraded - 1, 2 * batch.clean - 1, batch.mask)


def test_a_pixel_that_is_hardly_a_hole_is_known_to_the_bit():
    degraded = torch.rand(2, 3, 32, 32) * 1.5 - 0.6
    degraded[..., 5:12, 9:20] = -1
    estimate = Blind(16).eval()(degraded)  # 5 % outside the black area
    black = (degraded == -1).all(dim=1, keepdim=True)
    assert torch.equal(estimate.hole > 0, black)
    assert torch.equal(estimate.initial.masked_select(~black), degraded.masked_select(~black))


def test_a_hole_is_believed_near_a_pixel_that_is_certainly_one(blind, monkeypatch):
    probability = torch.full((1, 1, 8, 96), 0.5)
    probability[..., 3, 10] = 0.99
    probability[..., 60:] = 0.05
    monkeypatch.setattr(blind.damage, "forward", lambda degraded: (probability.logit(), []))
    monkeypatch.setattr(blind.damage, "log_error", lambda features, hole: torch.zeros(1))
    degraded = torch.rand(1, 3, 8, 96)
    anywhere = blind(degraded).hole
    assert torch.equal(anywhere > 0, probability > 0.1)
    blind.certainty = 0.98
    near = blind(degraded).hole
    # Up to 32 pixels from column 10, in all rows.
    assert torch.equal(near[..., :43], anywhere[..., :43]) and not near[..., 43:].any()
    blind.certainty = 0.995
    assert not blind(degraded).hole.any()
    mask = torch.ones(1, 1, 8, 96, dtype=torch.bool)
    assert torch.equal(blind(degraded, mask).hole, mask.float())


def test_in_training_every_other_image_comes_with_its_mask(blind):
    degraded, mask = torch.rand(4, 3, 32, 32) - 0.5, torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:20, 8:20] = True
    given, unknown = blind.eval()(degraded, mask).hole, blind.train()(degraded).hole
    hole = blind(degraded, mask).hole
    assert torch.equal(hole[1::2], given[1::2]) and torch.equal(given, mask.float())
    torch.testing.assert_close(hole[::2], unknown[::2])
    assert not torch.equal(unknown, given)


def test_masks_are_given_in_training_only_and_only_if_asked_for(network, batch, monkeypatch):
    """The objective passes the mask on; validation, which calls it too, is blind."""
    seen = []
    forward = Blind.forward
    monkeypatch.setattr(Blind, "forward", lambda self, y, mask=None: seen.append(mask) or forward(self, y, mask))
    objective, keys = Objective({"term": Nothing()}), fold("step", batch.index)
    objective(network.train(), batch, keys)
    objective(network.eval(), batch, keys)
    network.train().estimator.condition_on_mask = False
    objective(network, batch, keys)
    assert torch.equal(seen[0], batch.mask) and seen[1:] == [None, None]


def test_the_initial_estimate_is_the_degraded_image_with_its_hole_filled():
    """As it is before training: exact black is erased with probability 73 %, of which the rule of 10 % makes 79 %."""
    clean = torch.linspace(-0.5, 0.5, 32).expand(2, 3, 32, 32)
    degraded = clean.clone()
    degraded[..., 6:20, 9:22] = -1
    initial = Blind(16).eval()(degraded).initial
    hole = degraded == -1
    assert (initial - clean)[~hole].abs().max() < 0.05
    share = (torch.sigmoid(torch.tensor(1.0)) - 0.1) / 0.8
    filling = (initial - degraded)[hole] / share - 1  # what is blended in
    assert (filling - clean[hole]).abs().mean() < 0.05
    assert (degraded - clean)[hole].abs().mean() > 0.9


def test_the_residual_std_is_a_half_in_the_hole_and_twice_the_expected_error_elsewhere(blind, monkeypatch):
    log_error = torch.tensor([-4.0, -2.0, 3.0, -5.6])
    monkeypatch.setattr(blind.damage, "log_error", lambda features, hole: log_error)
    degraded, mask = torch.rand(4, 3, 32, 32) * 2 - 1, torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    mask[..., :10] = True
    std = blind(degraded, mask).residual_std
    assert std.shape == mask.shape and (std[mask] == 0.5).all()
    # Linear in the estimated error, from half a grey level up to the range of the images.
    values = [2 * (math.exp(-4) - 1 / 255), 2 * (math.exp(-2) - 1 / 255), 1.0, 0.0]
    expected = torch.tensor(values).view(4, 1, 1, 1).expand_as(std)
    torch.testing.assert_close(std[~mask], expected[~mask])
    # Without a mask it follows the probability of a hole.
    degraded[..., 4:15, 3:20] = -1
    estimate = blind(degraded)
    blended = estimate.hole * 0.5 + (1 - estimate.hole) * expected
    torch.testing.assert_close(estimate.residual_std, blended)
    assert estimate.hole.std() > 0


def test_a_users_mask_is_the_hole(blind):
    """The mask decides, whatever the pixels look like: here its pixels are not black, and black ones are known."""
    degraded, mask = torch.rand(2, 3, 32, 32) * 1.5 - 0.6, torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, :, 4:15, 3:20] = True
    degraded[:, :, 20:28, 20:28] = -1
    estimate = blind(degraded, mask)
    assert torch.equal(estimate.hole, mask.float())
    filled = fill(degraded, (~mask).float())
    inside = mask.expand_as(degraded)
    torch.testing.assert_close(estimate.initial[inside], filled[inside])
    assert torch.equal(estimate.initial[~inside], degraded[~inside])
    assert (estimate.initial - degraded)[inside].abs().mean() > 0.1
    # Blind, it reads black as a hole.
    assert (blind(degraded).hole[..., 21:27, 21:27] > 0.5).float().mean() > 0.5


def test_the_restorer_hands_the_mask_to_the_estimator(blind):
    restorer = Restorer(Plain(), InitialEstimate(0.0), Euler(), estimator=blind)
    degraded, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:20, 8:20] = True
    field = restorer.field(degraded, mask)
    assert torch.equal(field.estimate.hole, mask.float())
    assert torch.equal(field.mean, field.estimate.initial)
    keys = torch.arange(1)
    assert not torch.equal(restorer.restore(degraded, keys, mask=mask).images, restorer.restore(degraded, keys).images)


def test_the_loss_is_cross_entropy_and_a_tenth_of_the_squared_log_error(batch, blind):
    estimate = blind(2 * batch.degraded - 1)
    parts = loss_of(batch, estimate, blind)
    probability = torch.sigmoid(estimate.hole_logit)
    hole = -torch.where(batch.mask, probability, 1 - probability).log().mean()
    errors = []
    for clean, degraded, mask in zip(batch.clean, batch.degraded, batch.mask, strict=True):
        square = (2 * (clean - degraded)[:, ~mask[0]]).square().mean().item()
        errors.append(0.5 * math.log(square + (1 / 255) ** 2))
    error = 0.1 * (estimate.log_error - torch.tensor(errors)).square().mean()
    assert list(parts) == ["hole", "error"]
    torch.testing.assert_close(parts["hole"], hole, rtol=1e-4, atol=0)
    torch.testing.assert_close(parts["error"], error, rtol=1e-4, atol=0)


def test_the_loss_is_finite_on_intact_and_on_wholly_erased_images(batch, blind):
    intact = Batch(batch.clean, batch.clean, ~batch.mask & batch.mask, batch.severity, batch.index)
    erased = Batch(batch.clean, batch.clean * 0, batch.mask | ~batch.mask, batch.severity, batch.index)
    for extreme in (intact, erased):
        parts = loss_of(extreme, blind(2 * extreme.degraded - 1), blind)
        assert all(value.isfinite() for value in parts.values())


def test_a_mask_does_not_change_what_the_loss_teaches(batch, blind):
    """The log-odds are of the image alone, so a given mask is no shortcut."""
    degraded = 2 * batch.degraded - 1
    assert torch.equal(blind(degraded, batch.mask).hole_logit, blind(degraded).hole_logit)


class Nothing(Term):
    """A term without a loss: only the estimator's is left."""

    def forward(self, field, batch, keys, progress=1.0) -> TermValue:
        return TermValue(torch.zeros(()))


@pytest.fixture
def network(blind) -> Restorer:
    backbone = ResNetUNet(Encoder("test_resnet", "random"), widths=(16, 16, 24, 24), depth=1, embedding=32)
    # The last layers are zero-initialised, and would stop every gradient.
    for layer in (backbone.head, backbone.linear, *(block.out for block in backbone.blocks)):
        nn.init.normal_(layer.weight, std=0.1)
    return Restorer(backbone, Degraded(0.5), Euler(), estimator=blind).train()


def gradients(network: Restorer, batch: Batch, term: Term) -> tuple[dict[str, float], dict[str, float]]:
    """Size of the gradient by parameter, of the estimator and of the backbone; 0 without a gradient."""
    network.zero_grad()
    Objective({"term": term})(network, batch, fold("step", batch.index))[0].backward()
    return tuple(
        {name: 0.0 if p.grad is None else p.grad.abs().sum().item() for name, p in part.named_parameters()}
        for part in (network.estimator, network.backbone)
    )


RESTORATION = [Regression(SquaredError()), FlowMatching(Uniform(), SquaredError(), LogSquaredError())]


@pytest.mark.parametrize("term", RESTORATION, ids=["regression", "flow"])
def test_the_restoration_loss_gives_no_gradient_to_the_estimator(network, batch, term, monkeypatch):
    monkeypatch.setattr(network.estimator, "loss", lambda *_: {})
    estimator, backbone = gradients(network, batch, term)
    assert set(estimator.values()) == {0.0}
    assert backbone["head.weight"] > 0 and backbone["detail.1.weight"] > 0 and backbone["describe.weight"] > 0


def test_the_estimators_loss_gives_no_gradient_to_the_backbone(network, batch):
    estimator, backbone = gradients(network, batch, Nothing())
    assert all(value > 0 for value in estimator.values()), estimator
    assert set(backbone.values()) == {0.0}


def test_the_hole_is_learned_from_its_target():
    """A few steps of the estimator's loss alone find white rectangles, which it does not start from."""
    batch = make_batch(8)
    batch.clean.mul_(0.8)
    batch.degraded.copy_(batch.clean.masked_fill(batch.mask, 1.0))
    estimator = Blind(16)
    degraded = 2 * batch.degraded - 1
    assert not (estimator(degraded).hole > 0.5).any()
    optimizer = torch.optim.Adam(estimator.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        sum(loss_of(batch, estimator(degraded), estimator).values()).backward()
        optimizer.step()
    assert ((estimator(degraded).hole > 0.5) == batch.mask).float().mean() > 0.97
