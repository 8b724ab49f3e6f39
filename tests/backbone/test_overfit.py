"""Eight images are learnt by heart, by regression and by the flow."""

import pytest
import torch

from restoration.backbone import Encoder, ResNetUNet
from restoration.batch import Batch
from restoration.corruption import Corruption, Erase, GaussianBlur, Sequence
from restoration.flow import Degraded, Uniform
from restoration.keyed import fold
from restoration.metrics.image import psnr
from restoration.objective import DamageSupervision, FlowMatching, LogSquaredError, Objective, Regression, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint


def eight_images() -> Batch:
    """Smooth colour fields with an edge, damaged at severity 0.7."""
    x = torch.linspace(0, 6, 32)
    phase, tilt = torch.rand(8, 3, 1, 1) * 6, torch.rand(8, 1, 1, 1)
    clean = 0.5 + 0.4 * torch.sin(x + phase) * torch.cos(x[:, None] * tilt)
    clean[:, :, 16:] = 1 - clean[:, :, 16:]
    clean = clean.clamp(0, 1).contiguous()
    index = torch.arange(8)
    corruption = Corruption(Sequence({"blur": GaussianBlur(), "erase": Erase()}), 0.7, "fixed")
    degraded, mask, severity = corruption(clean, fold("eight", index))
    return Batch(clean, degraded, mask, severity, index)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "flow"])
def test_eight_images_overfit(kind):
    batch = eight_images()
    backbone = ResNetUNet(Encoder("test_resnet", "random"), widths=(32, 32, 48, 48), depth=1, embedding=64)
    if kind == "regression":
        restorer = Restorer(backbone, Degraded(0.0), Euler(nfe=1))
        terms = {"regression": Regression(LogSquaredError()), "damage": DamageSupervision()}
    else:
        restorer = Restorer(backbone, Degraded(0.5), Midpoint(nfe=8))
        flow = FlowMatching(Uniform(start_share=0.25), SquaredError(), LogSquaredError())
        terms = {"flow": flow, "damage": DamageSupervision()}
    objective, steps = Objective(terms), 500
    optimizer = torch.optim.AdamW(restorer.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(restorer, batch, fold(step, batch.index))[0].backward()
        torch.nn.utils.clip_grad_norm_(restorer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    restorer.eval()
    before = psnr(batch.degraded, batch.clean).mean().item()
    scores = {nfe: psnr(restorer.restore(batch.degraded, batch.index, nfe), batch.clean).mean().item() for nfe in (1, 8)}
    assert before < 15
    assert scores[1] > 30, scores
    if kind == "flow":
        assert scores[8] > 26, scores
