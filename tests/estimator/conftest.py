"""Estimators, images and a small restorer for their tests."""

import pytest
import torch
from torch import nn

from restoration.backbone import Encoder, ResNetUNet
from restoration.batch import Batch
from restoration.estimator import Blind
from restoration.flow import Degraded
from restoration.restorer import Restorer
from restoration.sampler import Euler


@pytest.fixture
def batch() -> Batch:
    clean = torch.rand(8, 3, 32, 32)
    mask = torch.zeros(8, 1, 32, 32, dtype=torch.bool)
    mask[:, :, 4:12, 6:14] = True
    degraded = (clean * 0.9 + 0.03).masked_fill(mask, 0.0)
    return Batch(clean, degraded, mask, torch.rand(8), torch.arange(8))


@pytest.fixture
def blind() -> Blind:
    """With random weights also in the layers that are zero-initialised, which would stop the gradient."""
    blind = Blind(16).eval()
    for layer in (blind.damage.hole[1], blind.damage.error[2]):
        nn.init.normal_(layer.weight, std=0.1)
    return blind


@pytest.fixture
def network(blind) -> Restorer:
    backbone = ResNetUNet(Encoder("test_resnet", "random"), widths=(16, 16, 24, 24), depth=1, embedding=32)
    # The last layers are zero-initialised, and would stop every gradient.
    for layer in (backbone.head, backbone.linear, *(block.out for block in backbone.blocks)):
        nn.init.normal_(layer.weight, std=0.1)
    return Restorer(backbone, Degraded(0.5), Euler(), estimator=blind).train()
