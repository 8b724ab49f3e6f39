"""x_in through the encoder: pretrained weights unchanged, new channels that train, the decoder shared."""

from pathlib import Path

import pytest
import torch
from helpers import composed, encoder_file

from restoration.backbone import Encoder, ResNetUNet, ResNetUNetState
from restoration.backbone.encoder import WidenedConv
from restoration.estimator import Blind
from restoration.flow import Degraded
from restoration.restorer import Restorer
from restoration.sampler import Euler

OPTIONS = {"widths": (16, 16, 24, 24), "embedding": 32}


@pytest.fixture
def pair() -> tuple[ResNetUNet, ResNetUNetState]:
    """The same weights, except for the widened convolution's own."""
    once, state = (kind(Encoder("test_resnet", "random"), **OPTIONS).eval() for kind in (ResNetUNet, ResNetUNetState))
    with torch.no_grad():
        for parameter in once.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    first = "encoder.model.conv1.0."
    weights = {name.replace(first, f"{first}pretrained."): value for name, value in once.state_dict().items()}
    lacking, unexpected = state.load_state_dict(weights, strict=False)
    assert lacking == [f"{first}extra.weight"] and not unexpected
    return once, state


@torch.no_grad()
def test_untrained_it_equals_the_network_that_encodes_once(pair):
    once, state = pair
    degraded, x_in, t = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.tensor([0.2, 0.8])
    estimate = Blind(16).eval()(degraded)
    expected = once(x_in, t, once.encode(degraded, estimate))
    torch.testing.assert_close(state(x_in, t, state.encode(degraded, estimate)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_trained_channels_the_encoder_sees_the_state(pair):
    _, state = pair
    degraded, x_in, t = torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.tensor([0.5])
    cached = state.encode(degraded, Blind(16).eval()(degraded))
    before = state(x_in, t, cached)
    (widened,) = [module for module in state.modules() if isinstance(module, WidenedConv)]
    widened.extra.weight.normal_(std=0.2)
    assert (state(x_in, t, cached) - before).abs().max() > 1e-3


def test_the_new_channels_train_with_the_decoder(tmp_path: Path):
    state = ResNetUNetState(Encoder("test_resnet", str(encoder_file(tmp_path))), **OPTIONS)
    restorer = Restorer(state, Degraded(0.5), Euler(), estimator=Blind(16))
    groups = {name: {id(p) for p in parameters} for name, parameters in restorer.parameter_groups().items()}
    names = {name: id(parameter) for name, parameter in restorer.named_parameters()}
    assert names["backbone.encoder.model.conv1.0.extra.weight"] in groups["new"]
    assert names["backbone.encoder.model.conv1.0.pretrained.weight"] in groups["encoder_lower"]
    assert sum(len(group) for group in groups.values()) == len(names)


def test_a_widened_convolution_equals_one_on_all_channels():
    first = torch.nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
    images = torch.randn(2, 5, 16, 16)
    wide = WidenedConv(first, 2)
    assert torch.equal(wide(images), first(images[:, :3]))
    torch.nn.init.normal_(wide.extra.weight)
    weight = torch.cat([first.weight, wide.extra.weight], dim=1)
    torch.testing.assert_close(wide(images), torch.nn.functional.conv2d(images, weight, stride=2, padding=3))


@pytest.mark.parametrize("model", ["test_convnext", "test_efficientnet"])
@torch.no_grad()
def test_any_encoder_that_begins_with_a_convolution_sees_the_state(model):
    state = ResNetUNetState(Encoder(model, "random", "imagenet"), (16,) * 5, depth=1, embedding=32).eval()
    for part in (state.head, *(block.out for block in state.blocks)):
        torch.nn.init.normal_(part.weight, std=0.1)
    degraded, x_in, t = torch.rand(1, 3, 32, 64), torch.randn(1, 3, 32, 64), torch.tensor([0.5])
    cached = state.encode(degraded, Blind(16).eval()(degraded))
    before = state(x_in, t, cached)
    (widened,) = [module for module in state.modules() if isinstance(module, WidenedConv)]
    widened.extra.weight.normal_()
    assert (state(x_in, t, cached) - before).abs().max() > 1e-3


def test_the_proposal_is_the_proposal_on_a_small_backbone_too():
    with composed("train", "experiment=blur_erase_proposal", "backbone=small", "folder=run") as config:
        assert config.backbone._target_ == "restoration.backbone.ResNetUNetState"
        assert config.backbone.widths == [64, 96, 128, 192] and config.sampler.nfe == 100
