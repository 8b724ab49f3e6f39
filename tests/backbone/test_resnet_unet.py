"""The U-Net: what it caches, what it reads of the estimate, its derivatives and its parameter groups."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import encoder_file
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone import Encoder, ResNetUNet
from restoration.backbone.embedding import FourierEmbedding
from restoration.backbone.resnet_unet import Block
from restoration.errors import UserError
from restoration.estimator import Blind, Estimate, Identity
from restoration.flow import Degraded
from restoration.restorer import Restorer
from restoration.sampler import Euler


def network(stem: str = "no_pool", widths: tuple[int, ...] = (16, 16, 24, 24), **options) -> ResNetUNet:
    made = ResNetUNet(Encoder("test_resnet", "random", stem), widths, embedding=32, **options)
    # Several layers are zero-initialised, and would hide what goes in.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def features(backbone: ResNetUNet, degraded: Tensor) -> Any:
    """Of degraded images without an estimate."""
    return backbone.encode(degraded, Identity()(degraded))


def test_split_convolutions_equal_the_ones_on_concatenated_inputs():
    block = Block(6, 10, 16, 8)
    nn.init.normal_(block.out.weight, std=0.1)
    state, skip, embedding = torch.randn(2, 6, 9, 9), torch.randn(2, 10, 9, 9), torch.randn(2, 8)
    both = torch.cat([state, skip], dim=1)
    convolution = torch.cat([block.from_state.weight, block.from_skip.weight], dim=1)
    hidden = F.conv2d(both, convolution, block.from_state.bias, padding=1)
    shortcut = F.conv2d(
        both, torch.cat([block.shortcut.weight, block.skip_shortcut.weight], dim=1), block.shortcut.bias
    )
    scale, shift = block.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
    expected = shortcut + block.out(F.silu(block.group_norm(hidden) * (1 + scale) + shift))
    torch.testing.assert_close(block(state, embedding, block.cache(skip)), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_features_serve_every_time_and_are_not_changed():
    backbone, degraded = network(), torch.rand(2, 3, 32, 32) * 2 - 1
    cached = features(backbone, degraded)
    for t in (0.0, 0.3, 0.9, 0.0):
        x_in, time = torch.randn(2, 3, 32, 32), torch.full((2,), t)
        assert torch.equal(backbone(x_in, time, cached), backbone(x_in, time, features(backbone, degraded)))


@torch.no_grad()
def test_the_output_depends_on_every_input():
    backbone, degraded, x_in, t = network(), torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.tensor([0.5])
    estimate = Identity()(degraded)
    output = backbone(x_in, t, backbone.encode(degraded, estimate))

    def change(degraded: Tensor = degraded, t: Tensor = t, **changed: Tensor) -> float:
        other = backbone(x_in, t, backbone.encode(degraded, replace(estimate, **changed)))
        return (other - output).abs().max().item()

    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 8:20, 8:20] = 1
    assert change() == 0
    assert change(t=t + 0.1) > 1e-3
    assert change(degraded=1 - degraded) > 1e-3
    assert change(initial=1 - degraded) > 1e-3
    assert change(residual_std=0.1 * estimate.residual_std) > 1e-3
    assert change(hole=hole) > 1e-3
    # Fine detail of x_in is seen: one pixel changes its own place most.
    touched = x_in.clone()
    touched[..., 17, 9] += 1
    difference = (backbone(touched, t, features(backbone, degraded)) - output).abs().sum(dim=(0, 1))
    assert difference[16:18, 8:10].mean() > 5 * difference[:8, 24:].mean()


@pytest.mark.parametrize("stem, widths, stride", [("no_pool", (16,) * 4, 16), ("imagenet", (16,) * 5, 32)])
@torch.no_grad()
def test_any_size_divisible_by_the_stride(stem, widths, stride):
    backbone = network(stem, widths, depth=1)
    assert backbone.stride == stride
    for rows, columns in ((1, 1), (2, 3), (5, 1)):
        size = (1, 3, rows * stride, columns * stride)
        degraded = torch.randn(size)
        for estimator in (Identity(), Blind(16).eval()):
            estimate = estimator(degraded)
            output = backbone(torch.randn(size), torch.tensor([0.4]), backbone.encode(degraded, estimate))
            assert output.shape == size and output.dtype == torch.float32 and output.isfinite().all()
            assert estimate.residual_std.shape == estimate.hole.shape == (1, 1, *size[2:])


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    backbone, degraded, x_in, t = network(), torch.rand(3, 3, 32, 32), torch.randn(3, 3, 32, 32), torch.rand(3)
    together = backbone(x_in, t, features(backbone, degraded))
    for row in range(3):
        one = slice(row, row + 1)
        alone = backbone(x_in[one], t[one], features(backbone, degraded[one]))
        torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=1e-4)


def test_too_few_widths_for_the_encoder_are_refused():
    with pytest.raises(UserError, match=r"backbone.widths=\[16, 16, 24\].* at least 4 widths"):
        ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24))


ENCODERS = {
    # Maps from stride 2, from 4, from 1, and a single one.
    "test_resnet": [2, 4, 8, 16, 32],
    "test_efficientnet": [2, 4, 8, 16, 32],
    "regnety_002": [2, 4, 8, 16, 32],
    "test_convnext": [4, 8, 16, 32],
    "vgg11": [1, 2, 4, 8, 16, 32],
    "test_vit": [16],
}


@pytest.mark.parametrize(
    "model, extra", [*((model, 0) for model in ENCODERS), ("test_resnet", 1), ("test_convnext", 1)]
)
def test_any_family_encodes(model: str, extra: int):
    """Forward and backward at a size that is not square; each level sees the map of its stride."""
    encoder = Encoder(model, "random", "imagenet")
    assert encoder.strides == ENCODERS[model]
    backbone = ResNetUNet(encoder, (16,) * (encoder.strides[-1].bit_length() - 1 + extra), depth=1, embedding=32)
    assert backbone.stride == encoder.strides[-1] * 2**extra
    nn.init.normal_(backbone.head.weight, std=0.1)
    for block in backbone.blocks:
        nn.init.normal_(block.out.weight, std=0.1)
    degraded, x_in = torch.rand(2, 2, 3, backbone.stride, 2 * backbone.stride) * 2 - 1
    output = backbone(x_in, torch.tensor([0.2, 0.7]), features(backbone, degraded))
    assert output.shape == degraded.shape and output.isfinite().all()
    output.square().mean().backward()
    for stride, block in zip(reversed(backbone.strides), backbone.blocks, strict=True):
        # Local features make the finest level's skip where the encoder has no map of its stride.
        assert (block.from_skip is not None) == (stride in encoder.strides or stride == 2)
        assert block.from_state.weight.grad.abs().max() > 0
        assert block.from_skip is None or block.from_skip.weight.grad.abs().max() > 0
    # All of the encoder is trained, except for what follows its last map.
    learning = [parameter.grad is not None for parameter in encoder.parameters()]
    assert sum(learning) > 0.9 * len(learning)


def restorer_of(backbone: ResNetUNet) -> Restorer:
    return Restorer(backbone, Degraded(0.5), Euler(), estimator=Blind(16))


def test_every_parameter_is_in_exactly_one_group(tmp_path: Path):
    encoder = Encoder("test_resnet", str(encoder_file(tmp_path)))
    restorer = restorer_of(ResNetUNet(encoder, (16,) * 4, embedding=32))
    groups = restorer.parameter_groups()
    assert list(groups) == ["new", "encoder_upper", "encoder_lower"]
    grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in restorer.parameters()}
    names = {id(parameter): name for name, parameter in restorer.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in groups["new"]} == {"estimator", "backbone"}
    assert not any(names[id(p)].startswith("backbone.encoder.") for p in groups["new"])
    upper, lower = ({names[id(p)] for p in groups[name]} for name in ("encoder_upper", "encoder_lower"))
    assert all(name.startswith("backbone.encoder.model.") for name in upper | lower)
    top, bottom = ({name.split(".")[3] for name in group} for group in (upper, lower))
    assert "layer4" in top and "conv1" in bottom and not top & bottom


def test_a_random_encoder_is_new():
    restorer = restorer_of(network())
    assert restorer.backbone.pretrained() == {}
    groups = restorer.parameter_groups()
    assert list(groups) == ["new"]
    assert {id(p) for p in groups["new"]} == {id(p) for p in restorer.parameters()}
    assert len(groups["new"]) == len(list(restorer.parameters()))


@pytest.mark.parametrize("direction", ["x_in", "t", "both"])
def test_the_jvp_equals_central_differences(direction, monkeypatch):
    """Forward-mode derivatives in (x_in, t), in float64; the casts to float32 would hide the differences."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    backbone = network().double()
    x_in, t = torch.randn(2, 3, 32, 32).double(), torch.tensor([0.2, 0.7]).double()
    with torch.no_grad():
        cached = features(backbone, torch.rand(2, 3, 32, 32).double() * 2 - 1)
    along_x = torch.randn_like(x_in) if direction != "t" else torch.zeros_like(x_in)
    along_t = torch.ones_like(t) if direction != "x_in" else torch.zeros_like(t)

    def output(x: Tensor, time: Tensor) -> Tensor:
        return backbone(x, time, cached)

    value, tangent = torch.func.jvp(output, (x_in, t), (along_x, along_t))
    with torch.no_grad():
        torch.testing.assert_close(value, output(x_in, t))
        h = 1e-5
        ahead, behind = output(x_in + h * along_x, t + h * along_t), output(x_in - h * along_x, t - h * along_t)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-5)
    assert tangent.abs().max() > 0.1


def test_the_time_embedding_is_bounded_in_bandwidth():
    embedding = FourierEmbedding(8)
    assert embedding.frequencies.max() == pytest.approx(16 * torch.pi)
    assert embedding(torch.linspace(0, 1, 5)).shape == (5, 8)
    assert not any("frequencies" in name for name in embedding.state_dict())


@torch.no_grad()
def test_the_description_averages_the_residual_std_over_surely_known_pixels():
    """An uncertain pixel counts less, and from a probability of a quarter on not at all."""
    backbone, degraded = network(), torch.rand(1, 3, 32, 32)
    hole, std = torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 0.2)
    hole[..., :8, :] = 0.25
    other = std.clone()
    other[..., :8, :] = 0.9
    estimates = [Estimate(degraded, spread, hole) for spread in (std, other, 2 * std)]
    base, uncertain, doubled = (backbone.local(degraded, estimate)[1] for estimate in estimates)
    torch.testing.assert_close(base, uncertain)
    # The logarithm enters linearly, through the last column.
    torch.testing.assert_close(doubled - base, backbone.describe.weight[:, -1][None] * torch.tensor(2.0).log())
