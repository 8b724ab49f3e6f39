"""The U-Net: what it caches, what its estimate of the damage binds, its derivatives and its parameter groups."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone import Context, DamageEstimate, Encoder, ResNetUNet
from restoration.backbone.embedding import FourierEmbedding
from restoration.backbone.resnet_unet import Block, damage_scale


def network(stem: str = "no_pool", widths: tuple[int, ...] = (16, 16, 24, 24), **options) -> ResNetUNet:
    made = ResNetUNet(Encoder("test_resnet", "random", stem), widths, embedding=32, **options)
    # Several layers are born zero, and would hide what goes in.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


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
def test_one_context_serves_every_time_and_is_not_used_up():
    backbone, degraded = network(), torch.rand(2, 3, 32, 32) * 2 - 1
    context = backbone.encode(degraded)
    for t in (0.0, 0.3, 0.9, 0.0):
        x_t, time = torch.randn(2, 3, 32, 32), torch.full((2,), t)
        assert torch.equal(backbone(x_t, time, context), backbone(x_t, time, backbone.encode(degraded)))


@torch.no_grad()
def test_the_answer_depends_on_every_input():
    backbone, degraded, x_t, t = network(), torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32), torch.tensor([0.5])
    context = backbone.encode(degraded)
    answer = backbone(x_t, t, context)
    assert (backbone(x_t, t + 0.1, context) - answer).abs().max() > 1e-3
    assert (backbone(x_t, t, backbone.encode(1 - degraded)) - answer).abs().max() > 1e-3
    # Fine detail of x_t is seen: one pixel changes its own place most.
    touched = x_t.clone()
    touched[..., 17, 9] += 1
    change = (backbone(touched, t, context) - answer).abs().sum(dim=(0, 1))
    assert change[16:18, 8:10].mean() > 5 * change[:8, 24:].mean()


@pytest.mark.parametrize("stem, widths, stride", [("no_pool", (16,) * 4, 16), ("imagenet", (16,) * 5, 32)])
@torch.no_grad()
def test_any_size_divisible_by_the_stride(stem, widths, stride):
    backbone = network(stem, widths, depth=1)
    assert backbone.stride == stride
    for rows, columns in ((1, 1), (2, 3), (5, 1)):
        size = (1, 3, rows * stride, columns * stride)
        context = backbone.encode(torch.randn(size))
        answer = backbone(torch.randn(size), torch.tensor([0.4]), context)
        assert answer.shape == size and answer.dtype == torch.float32 and answer.isfinite().all()
        assert context.scale.shape == context.damage.hole_logit.shape == (1, 1, *size[2:])


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    backbone, degraded, x_t, t = network(), torch.rand(3, 3, 32, 32), torch.randn(3, 3, 32, 32), torch.rand(3)
    together = backbone(x_t, t, backbone.encode(degraded))
    for row in range(3):
        one = slice(row, row + 1)
        alone = backbone(x_t[one], t[one], backbone.encode(degraded[one]))
        torch.testing.assert_close(alone, together[one], atol=1e-4, rtol=1e-4)


def test_too_few_widths_for_the_encoder_are_refused():
    with pytest.raises(ValueError, match=r"backbone.widths=\[16, 16, 24\].* at least 4 widths"):
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
    """Forward and backward at a size that is no square; every map with a level's stride is seen by that level."""
    encoder = Encoder(model, "random", "imagenet")
    assert encoder.strides == ENCODERS[model]
    backbone = ResNetUNet(encoder, (16,) * (encoder.strides[-1].bit_length() - 1 + extra), depth=1, embedding=32)
    assert backbone.stride == encoder.strides[-1] * 2**extra
    nn.init.normal_(backbone.head.weight, std=0.1)
    for block in backbone.blocks:
        nn.init.normal_(block.out.weight, std=0.1)
    degraded, x_t = torch.rand(2, 2, 3, backbone.stride, 2 * backbone.stride) * 2 - 1
    answer = backbone(x_t, torch.tensor([0.2, 0.7]), backbone.encode(degraded))
    assert answer.shape == degraded.shape and answer.isfinite().all()
    answer.square().mean().backward()
    for stride, block in zip(reversed(backbone.strides), backbone.blocks, strict=True):
        # Local features make the finest level's skip where the encoder has no map of its stride.
        assert (block.from_skip is not None) == (stride in encoder.strides or stride == 2)
        assert block.from_state.weight.grad.abs().max() > 0
        assert block.from_skip is None or block.from_skip.weight.grad.abs().max() > 0
    # All of the encoder learns, but for what follows its last map.
    learning = [parameter.grad is not None for parameter in encoder.parameters()]
    assert sum(learning) > 0.9 * len(learning)


def test_stages_hold_every_parameter_once():
    backbone = network()
    stages = backbone.stages()
    assert list(stages) == ["decoder", "encoder_upper", "encoder_lower"]
    grouped = [id(parameter) for parameters in stages.values() for parameter in parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in backbone.parameters()}
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    assert all(
        names[id(p)].startswith("encoder.model.") for group in ("encoder_upper", "encoder_lower") for p in stages[group]
    )
    assert not any(names[id(p)].startswith("encoder.") for p in stages["decoder"])
    top = {names[id(p)].split(".")[2] for p in stages["encoder_upper"]}
    bottom = {names[id(p)].split(".")[2] for p in stages["encoder_lower"]}
    assert "layer4" in top and "conv1" in bottom and not top & bottom


@pytest.mark.parametrize("direction", ["x_t", "t", "both"])
def test_the_jvp_equals_central_differences(direction, monkeypatch):
    """Forward-mode derivatives in (x_t, t), in float64; the casts to float32 would drown the differences."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    backbone = network().double()
    x_t, t = torch.randn(2, 3, 32, 32).double(), torch.tensor([0.2, 0.7]).double()
    with torch.no_grad():
        context = backbone.encode(torch.rand(2, 3, 32, 32).double() * 2 - 1)
    along_x = torch.randn_like(x_t) if direction != "t" else torch.zeros_like(x_t)
    along_t = torch.ones_like(t) if direction != "x_t" else torch.zeros_like(t)

    def answer(x: Tensor, time: Tensor) -> Tensor:
        return backbone(x, time, context)

    value, tangent = torch.func.jvp(answer, (x_t, t), (along_x, along_t))
    with torch.no_grad():
        torch.testing.assert_close(value, answer(x_t, t))
        h = 1e-5
        ahead, behind = answer(x_t + h * along_x, t + h * along_t), answer(x_t - h * along_x, t - h * along_t)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-5)
    assert tangent.abs().max() > 0.1


def test_the_time_embedding_is_bounded_in_bandwidth():
    embedding = FourierEmbedding(8)
    assert embedding.frequencies.max() == pytest.approx(16 * torch.pi)
    assert embedding(torch.linspace(0, 1, 5)).shape == (5, 8)
    assert not any("frequencies" in name for name in embedding.state_dict())


def test_the_damage_scale_goes_from_the_known_error_to_that_of_a_filled_hole():
    logit = torch.tensor([-30.0, 30.0]).view(1, 1, 1, 2).expand(3, -1, -1, -1)
    scale = damage_scale(DamageEstimate(logit, torch.tensor([-4.0, -2.0, 3.0])))
    known, hole = scale[:, 0, 0, 0], scale[:, 0, 0, 1]
    assert hole.tolist() == [0.5, 0.5, 0.5]
    # Linear in the estimated error, up to the range of the images.
    torch.testing.assert_close(known[1] / known[0], torch.tensor(2.0).exp())
    assert known[2] == 1 and 0 < known[0] < 0.1


def test_without_the_identity_path_every_pixel_may_change_alike():
    degraded = torch.rand(2, 3, 32, 32)
    degraded[..., 8:20, 8:20] = -1
    plain = network(identity_path=False).encode(degraded)
    assert torch.equal(plain.scale, torch.ones(2, 1, 32, 32)) and torch.equal(plain.base, degraded)
    assert network().encode(torch.rand(2, 3, 32, 32)).scale.std() > 0


def test_the_context_carries_the_degraded_image_it_was_made_of():
    degraded = torch.rand(2, 3, 32, 32) * 2 - 1
    context = network().encode(degraded)
    assert isinstance(context, Context) and torch.equal(context.degraded, degraded)


@torch.no_grad()
def test_the_base_is_the_degraded_image_with_its_hole_filled():
    """As the estimate has it before training: exact black is erased."""
    torch.manual_seed(3)
    backbone = ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24, 24), embedding=32).eval()
    clean = torch.linspace(-0.5, 0.5, 32).expand(2, 3, 32, 32)
    degraded = clean.clone()
    degraded[..., 6:20, 9:22] = -1
    base = backbone.encode(degraded).base
    hole = degraded == -1
    # The estimate starts at 98 % certain, either way.
    assert (base - clean)[~hole].abs().max() < 0.02
    assert (base - clean)[hole].abs().mean() < 0.05
    assert (degraded - clean)[hole].abs().mean() > 0.9
