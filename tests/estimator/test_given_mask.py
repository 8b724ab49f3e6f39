"""A mask that is given: by a user, or beside every other training image."""

import pytest
import torch
from helpers import Plain

from restoration.estimator import Blind
from restoration.estimator.fill import fill
from restoration.flow import Degraded, InitialEstimate
from restoration.keyed import fold
from restoration.objective import Objective, Regression, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler


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
    objective, keys = Objective({"term": Regression(SquaredError())}), fold("step", batch.index)
    objective(network.train(), batch, keys)
    objective(network.eval(), batch, keys)
    network.train().estimator.condition_on_mask = False
    objective(network, batch, keys)
    assert torch.equal(seen[0], batch.mask) and seen[1:] == [None, None]


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


@pytest.mark.parametrize("source", [Degraded(0.5), InitialEstimate(0.5)], ids=["degraded", "initial"])
def test_what_is_under_a_mask_does_not_matter(network, batch, source):
    """To the bit, in the known region, too; blind it does."""
    restorer = Restorer(network.backbone, source, Euler(), estimator=network.estimator).eval()
    other = torch.where(batch.mask, torch.rand_like(batch.degraded), batch.degraded)
    given = [restorer.restore(images, batch.index, 2, mask=batch.mask).images for images in (batch.degraded, other)]
    assert torch.equal(*given)
    blind = [restorer.restore(images, batch.index, 2).images for images in (batch.degraded, other)]
    assert (blind[0] - blind[1]).abs().max() > 0.01


def test_in_training_the_network_sees_the_content_of_blind_holes_only(network, batch, monkeypatch):
    seen = []
    encode = network.backbone.encode
    monkeypatch.setattr(network.backbone, "encode", lambda y, estimate: seen.append(y) or encode(y, estimate))
    field = network.train().field(batch.degraded, batch.mask)
    degraded, inside = 2 * batch.degraded - 1, batch.mask.expand_as(batch.degraded)
    assert torch.equal(seen[0][::2], degraded[::2])
    assert torch.equal(seen[0][1::2], degraded.where(~inside, field.estimate.initial)[1::2])
    assert (seen[0] - degraded)[1::2][inside[1::2]].abs().min() > 0.01  # the holes are black, their filling is not


def test_a_mask_does_not_change_what_the_loss_teaches(batch, blind):
    """The log-odds are of the image alone, so a given mask is no shortcut."""
    degraded = 2 * batch.degraded - 1
    blind.train()
    assert torch.equal(blind(degraded, batch.mask).hole_logit, blind(degraded).hole_logit)
