"""The blind estimator: where the hole is, how large the rest of the error is, and what teaches it."""

import math

import pytest
import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.estimator import Blind
from restoration.estimator.blind import BlindEstimate
from restoration.flow import Uniform
from restoration.keyed import fold
from restoration.objective import FlowMatching, LogSquaredError, Objective, Regression, SquaredError, Term, TermValue
from restoration.restorer import Restorer


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


class Nothing(Term):
    """A term without a loss: only the estimator's is left."""

    def forward(self, field, batch, keys, progress=1.0) -> TermValue:
        return TermValue(torch.zeros(()))


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


def test_the_hole_is_learned_from_its_target(batch):
    """A few steps of the estimator's loss alone find white rectangles, which it does not start from."""
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
