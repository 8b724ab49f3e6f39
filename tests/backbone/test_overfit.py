"""Regression and flow both overfit eight images, on every backbone."""

import pytest
import torch

from restoration.backbone import DiT, Encoder, ResNetUNet, UNet
from restoration.batch import Batch
from restoration.corruption import Corruption, Erase, GaussianBlur, Sequence
from restoration.estimator import Blind, Estimator, Identity
from restoration.flow import Degraded, Uniform
from restoration.keyed import fold
from restoration.metrics.image import psnr
from restoration.objective import FlowMatching, LogSquaredError, Objective, Regression, SquaredError, Term
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint


def eight_images() -> Batch:
    """Smooth colour fields with an edge, degraded at severity 0.7."""
    x = torch.linspace(0, 6, 32)
    phase, tilt = torch.rand(8, 3, 1, 1) * 6, torch.rand(8, 1, 1, 1)
    clean = 0.5 + 0.4 * torch.sin(x + phase) * torch.cos(x[:, None] * tilt)
    clean[:, :, 16:] = 1 - clean[:, :, 16:]
    clean = clean.clamp(0, 1).contiguous()
    index = torch.arange(8)
    corruption = Corruption(Sequence({"blur": GaussianBlur(), "erase": Erase()}), 0.7, "fixed")
    degraded, mask, severity = corruption(clean, fold("eight", index))
    return Batch(clean, degraded, mask, severity, index)


def overfit(restorer: Restorer, term: Term, steps: int = 400) -> dict[int, float]:
    """Mean PSNR on the training images, by NFE."""
    batch, objective = eight_images(), Objective({"term": term})
    optimizer = torch.optim.AdamW(restorer.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(restorer, batch, fold(step, batch.index))[0].backward()
        torch.nn.utils.clip_grad_norm_(restorer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    restorer.eval()
    assert psnr(batch.degraded, batch.clean).mean() < 15
    return {
        nfe: psnr(restorer.restore(batch.degraded, batch.index, nfe).images, batch.clean).mean().item()
        for nfe in (1, 8)
    }


def network() -> ResNetUNet:
    return ResNetUNet(Encoder("test_resnet", "random"), widths=(32, 32, 48, 48), depth=1, embedding=64)


@pytest.mark.slow
def test_regression_overfits_eight_images():
    restorer = Restorer(network(), Degraded(0.0), Euler(nfe=1), estimator=Blind())
    scores = overfit(restorer, Regression(LogSquaredError()))
    assert scores[1] > 30, scores


@pytest.fixture(scope="module")
def flow_scores() -> dict[int, float]:
    torch.manual_seed(0)
    flow = FlowMatching(Uniform(start_share=0.25), SquaredError(), LogSquaredError())
    return overfit(Restorer(network(), Degraded(0.5), Midpoint(), estimator=Blind()), flow)


@pytest.mark.slow
def test_a_flow_overfits_eight_images_in_one_evaluation(flow_scores):
    assert flow_scores[1] > 30, flow_scores


@pytest.mark.slow
def test_a_flow_overfits_eight_images_in_eight_evaluations(flow_scores):
    assert flow_scores[8] > 28, flow_scores


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [Identity(), Blind()], ids=["identity", "blind"])
def test_a_transformer_overfits_eight_images(estimator: Estimator):
    torch.manual_seed(0)
    flow = FlowMatching(Uniform(start_share=0.25), SquaredError(), LogSquaredError())
    transformer = DiT(width=96, depth=3, heads=3, embedding=32)
    scores = overfit(Restorer(transformer, Degraded(0.5), Midpoint(), estimator=estimator), flow)
    assert scores[1] > 30 and scores[8] > 28, scores


@pytest.mark.slow
def test_a_plain_unet_overfits_eight_images():
    torch.manual_seed(0)
    flow = FlowMatching(Uniform(start_share=0.5), SquaredError(), LogSquaredError())
    unet = UNet((16, 32, 48, 64), embedding=32)
    scores = overfit(Restorer(unet, Degraded(0.5), Midpoint(), estimator=Blind()), flow)
    assert scores[1] > 30 and scores[8] > 25, scores
