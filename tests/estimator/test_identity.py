"""Without an estimate of the degradation: the default estimator, and a restorer that trains and restores with it."""

import pytest
import torch
from helpers import Plain

from restoration.batch import Batch
from restoration.estimator import Identity
from restoration.flow import CleanPrediction, Degraded, InitialEstimate, Noise, Uniform, VelocityPrediction
from restoration.keyed import fold
from restoration.metrics.image import psnr
from restoration.objective import FlowMatching, Objective, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler, Exponential, Heun, Midpoint


def test_the_initial_estimate_is_the_degraded_image():
    degraded = torch.rand(2, 3, 8, 6) * 2 - 1
    estimate = Identity()(degraded)
    assert torch.equal(estimate.initial, degraded)
    assert torch.equal(estimate.residual_std, torch.ones(2, 1, 8, 6))
    assert torch.equal(estimate.hole, torch.zeros(2, 1, 8, 6))


def test_a_given_mask_is_the_hole():
    degraded, mask = torch.rand(2, 3, 8, 6), torch.rand(2, 1, 8, 6) > 0.5
    estimate = Identity()(degraded, mask)
    assert torch.equal(estimate.hole, mask.float())
    assert torch.equal(estimate.initial, degraded) and (estimate.residual_std == 1).all()


def test_it_has_no_parameters_and_no_loss():
    identity, images = Identity(), torch.rand(2, 3, 8, 8)
    assert not list(identity.parameters())
    assert identity.loss(identity(images), images, images, torch.zeros(2, 1, 8, 8, dtype=torch.bool)) == {}


def dark_batch() -> Batch:
    """Smooth images, degraded to a third of their brightness."""
    x = torch.linspace(0, 6, 16)
    clean = 0.5 + 0.4 * torch.sin(x + torch.rand(8, 3, 1, 1) * 6) * torch.cos(x[:, None] * torch.rand(8, 1, 1, 1))
    mask = torch.zeros(8, 1, 16, 16, dtype=torch.bool)
    return Batch(clean, clean / 3, mask, torch.ones(8), torch.arange(8))


@pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])
@pytest.mark.parametrize("source", [Degraded(0.5), Noise(), InitialEstimate(0.5)], ids=["degraded", "noise", "initial"])
def test_a_backbone_of_one_convolution_trains_and_restores(prediction, source):
    """`Plain` states nothing about the degradation, and no part of the restorer needs that."""
    batch, restorer = dark_batch(), Restorer(Plain(), source, Euler(nfe=2), prediction)
    objective = Objective({"flow": FlowMatching(Uniform(0.25), SquaredError())})
    optimizer = torch.optim.Adam(restorer.parameters(), 2e-2)
    for step in range(150):
        optimizer.zero_grad()
        loss, log = objective(restorer, batch, fold(step, batch.index))
        loss.backward()
        optimizer.step()
    assert not any(name.startswith("estimator") for name in log)
    before = psnr(batch.degraded, batch.clean).mean()
    for sampler in (Euler(), Midpoint(), Heun(), Exponential()):
        for nfe in (1, 4):
            restored = restorer.restore(batch.degraded, batch.index, nfe, sampler).images
            # One convolution can brighten, and cannot remove all noise.
            assert psnr(restored, batch.clean).mean() > before + (6 if nfe == 1 else 1)
