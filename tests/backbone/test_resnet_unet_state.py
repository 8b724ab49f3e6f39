"""x_t through the encoder: pretrained weights as they are, new channels that train, the decoder shared."""

import pytest
import torch

from restoration.backbone import Encoder, ResNetUNet, ResNetUNetState
from restoration.backbone.encoder import WidenedConv

OPTIONS = {"widths": (16, 16, 24, 24), "embedding": 32}


@pytest.fixture
def pair() -> tuple[ResNetUNet, ResNetUNetState]:
    """The same weights, but for the widened convolution's own."""
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
def test_born_it_answers_as_the_one_that_encodes_once(pair):
    once, state = pair
    degraded, evidence, t = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.tensor([0.2, 0.8])
    expected = once(evidence, t, once.encode(degraded))
    torch.testing.assert_close(state(evidence, t, state.encode(degraded)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_then_the_encoder_sees_the_state(pair):
    once, state = pair
    seen = [module for module in state.modules() if isinstance(module, WidenedConv)]
    assert len(seen) == 1
    seen[0].extra.weight.normal_(std=0.2)
    degraded, evidence, t = torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.tensor([0.5])
    assert (state(evidence, t, state.encode(degraded)) - once(evidence, t, once.encode(degraded))).abs().max() > 1e-3


def test_the_new_channels_train_with_the_decoder(pair):
    _, state = pair
    groups = {name: {id(p) for p in parameters} for name, parameters in state.stages().items()}
    names = {name: id(parameter) for name, parameter in state.named_parameters()}
    assert names["encoder.model.conv1.0.extra.weight"] in groups["decoder"]
    assert names["encoder.model.conv1.0.pretrained.weight"] in groups["encoder_lower"]
    assert sum(len(group) for group in groups.values()) == len(names)


def test_a_widened_convolution_is_one_on_all_channels():
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
    degraded, evidence, t = torch.rand(1, 3, 32, 64), torch.randn(1, 3, 32, 64), torch.tensor([0.5])
    born = state(evidence, t, state.encode(degraded))
    (seen,) = [module for module in state.modules() if isinstance(module, WidenedConv)]
    seen.extra.weight.normal_()
    assert (state(evidence, t, state.encode(degraded)) - born).abs().max() > 1e-3
