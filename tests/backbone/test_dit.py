"""The transformer: two times, positions on any grid, what it reads, and how it starts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restoration.backbone import DiT
from restoration.backbone.dit_blocks import Attention, patches, rotate, rotation, unpatch
from restoration.errors import UserError
from restoration.estimator import Blind, Estimator, Identity
from restoration.flow import Degraded
from restoration.flow.tiling import Tiles
from restoration.restorer import Restorer
from restoration.sampler import Euler

SMALL = {"width": 32, "depth": 3, "heads": 2, "embedding": 16}


def disturbed(module: Any) -> Any:
    """Several layers are zero-initialised, and would hide what goes in."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module


def network(**options: Any) -> DiT:
    return disturbed(DiT(**SMALL | options)).eval()


def features(backbone: DiT, degraded: Tensor) -> Any:
    """Of degraded images without an estimate."""
    return backbone.encode(degraded, Identity()(degraded))


def example(height: int = 32, width: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Degraded images, x_in, noise, t and r."""
    degraded, x_in, noise = torch.randn(3, 2, 3, height, width)
    return degraded.clamp(-1, 1), x_in, noise, torch.tensor([0.0, 0.7]), torch.tensor([1.0, 0.8])


@pytest.mark.parametrize("decoupled", [False, True])
@torch.no_grad()
def test_an_interval_of_no_length_is_the_instantaneous_field_bit_for_bit(decoupled: bool):
    backbone, (degraded, x_in, noise, t, r) = network(decoupled=decoupled), example()
    seen = features(backbone, degraded)
    field = backbone(x_in, t, seen)
    assert torch.equal(backbone(x_in, t, seen, t, noise), field)
    difference = (backbone(x_in, t, seen, r, noise) - field).abs().amax(dim=(1, 2, 3))
    assert difference.min() > 1e-3
    # Over an interval the noise counts, in proportion to its length.
    other = (backbone(x_in, t, seen, r, -noise) - backbone(x_in, t, seen, r, noise)).abs().amax(dim=(1, 2, 3))
    assert other[0] > 2 * other[1] > 1e-4


@pytest.mark.parametrize("decoupled", [False, True])
def test_two_noises_differ_after_a_step_of_a_trained_flow(decoupled: bool):
    backbone, (degraded, x_in, noise, t, r) = network(decoupled=decoupled), example()
    nn.init.zeros_(backbone.embed_noise.weight)  # as after training without r
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1)

    def spread() -> float:
        seen = features(backbone, degraded)
        return (backbone(x_in, t, seen, r, noise) - backbone(x_in, t, seen, r, -noise)).abs().max().item()

    assert spread() == 0
    (backbone(x_in, t, features(backbone, degraded), r, noise) - noise).square().mean().backward()
    optimizer.step()
    assert spread() > 1e-4


@torch.no_grad()
def test_decoupled_blocks_see_one_time_each():
    backbone, (degraded, x_in, noise, t, r) = network(decoupled=True, depth=4), example()
    seen, given = features(backbone, degraded), []
    for block in (*backbone.blocks, backbone):
        block.modulation.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    backbone(x_in, t, seen, r, noise)
    alone = [nn.functional.silu(backbone.time(time)) for time in (t, t, t, r, r)]
    assert len(given) == 5 and all(torch.equal(a, b) for a, b in zip(given, alone, strict=True))
    # No weights beyond those of the flow.
    assert not any(name.startswith("interval") for name in backbone.state_dict())


def test_patches_are_rows_of_pixels():
    images = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    rows = patches(images, 4)
    assert torch.equal(rows[1, 4], images[1, :, 4:, 4:8].flatten())  # the second row of the grid, its second patch
    assert torch.equal(unpatch(rows, (2, 3), 4), images)


def test_attention_is_softmax_over_turned_and_normalised_heads():
    """Against complex numbers: a pair of channels is turned by e^(i · position · frequency)."""
    attention = disturbed(Attention(16, 2, 0.0, 0.0)).double()
    rows, columns, tokens = 3, 5, torch.randn(2, 15, 16).double()
    place = torch.arange(15)
    frequencies = torch.tensor([1.0, 0.1]).double()  # 100^0 and 100^(−1/2)
    angles = torch.cat([(place // columns)[:, None] * frequencies, (place % columns)[:, None] * frequencies], dim=1)
    made = attention.qkv(tokens).view(2, 15, 3, 2, 8)
    heads = []
    for head in range(2):
        query, key, value = made[:, :, :, head].unbind(2)
        turned = []
        for part, norm in ((query, attention.query_norm), (key, attention.key_norm)):
            part = part / part.square().mean(-1, keepdim=True).add(1e-6).sqrt() * norm.weight
            turned.append(torch.complex(part[..., :4], part[..., 4:]) * torch.polar(torch.ones(()).double(), angles))
        scores = torch.einsum("bnc,bmc->bnm", turned[0], turned[1].conj()).real / 8**0.5
        heads.append(scores.softmax(-1) @ value)
    expected = attention.out(torch.cat(heads, dim=-1))
    # Angles are computed in float32.
    torch.testing.assert_close(attention(tokens, rotation(rows, columns, 8, tokens)), expected, atol=1e-6, rtol=1e-5)


def test_only_offsets_count_and_they_count_alike_in_every_grid():
    query, key = torch.randn(2, 1, 16)

    def product(grid: tuple[int, int], first: int, second: int) -> Tensor:
        cos, sin = rotation(*grid, 16, query)
        turned = [rotate(part, (cos[n : n + 1], sin[n : n + 1])) for part, n in ((query, first), (key, second))]
        return (turned[0] * turned[1]).sum()

    # One row down and two columns right: in grids of 4, 9 and 9 columns.
    near = product((4, 4), 1, 7)
    torch.testing.assert_close(product((9, 9), 30, 41), near, atol=1e-4, rtol=1e-4)
    assert (product((9, 9), 30, 32) - near).abs() > 1e-3
    assert (product((9, 9), 41, 30) - near).abs() > 1e-3


@torch.no_grad()
def test_a_plain_image_gives_one_patch_at_every_place_and_size():
    backbone, outputs = network(), []
    for rows, columns in ((1, 1), (2, 5), (9, 4)):
        plain = torch.full((1, 3, 4 * rows, 4 * columns), 0.4)
        outputs.append(backbone(plain, torch.tensor([0.3]), features(backbone, plain)))
        assert outputs[-1].shape == plain.shape and outputs[-1].dtype == torch.float32
        torch.testing.assert_close(outputs[-1], outputs[0].repeat(1, 1, rows, columns), atol=1e-5, rtol=1e-5)
    assert outputs[0].std() > 0.01


@pytest.mark.parametrize("estimator", [Identity(), Blind(16)])
@torch.no_grad()
def test_any_size_in_one_pass_and_in_tiles(estimator: Estimator):
    restorer = Restorer(network(), Degraded(0.5), Euler(), estimator=estimator).eval()
    restorer.check_size(36)
    with pytest.raises(UserError, match="stride 4; use 32 or 36"):
        restorer.check_size(34)
    images, keys = torch.rand(2, 3, 37, 50), torch.arange(2)
    whole = restorer.restore(images, keys, 2).images
    tiled = restorer.restore(images, keys, 2, tiles=Tiles(16, 6, 4)).images
    assert whole.shape == tiled.shape == images.shape and whole.isfinite().all() and tiled.isfinite().all()
    assert 0 < (whole - tiled).abs().mean() < 0.1 * (whole - images).abs().mean()


@torch.no_grad()
def test_the_output_depends_on_every_input():
    backbone, (degraded, x_in, _, t, _) = network(), example()
    estimate = Identity()(degraded)
    output = backbone(x_in, t, backbone.encode(degraded, estimate))

    def change(degraded: Tensor = degraded, x_in: Tensor = x_in, t: Tensor = t, **changed: Tensor) -> float:
        other = backbone(x_in, t, backbone.encode(degraded, replace(estimate, **changed)))
        return (other - output).abs().max().item()

    assert change() == 0
    assert change(x_in=x_in + 0.1) > 1e-3
    assert change(t=t + 0.1) > 1e-3
    assert change(degraded=-degraded) > 1e-3
    assert change(initial=-degraded) > 1e-3
    assert change(residual_std=0.1 * estimate.residual_std) > 1e-3
    assert change(hole=(degraded[:, :1] > 0).float()) > 1e-3


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    backbone, (degraded, x_in, noise, t, r) = network(), example()
    together = backbone(x_in, t, features(backbone, degraded), r, noise)
    for row in range(2):
        one = slice(row, row + 1)
        alone = backbone(x_in[one], t[one], features(backbone, degraded[one]), r[one], noise[one])
        torch.testing.assert_close(alone, together[one], atol=1e-5, rtol=1e-5)


def test_at_first_blocks_are_the_identity_and_the_output_is_zero():
    backbone, (degraded, x_in, noise, t, r) = DiT(**SMALL), example()
    tokens, turn = features(backbone, degraded)
    assert torch.equal(backbone.blocks[0](tokens, torch.randn(2, 16), turn), tokens)
    output = backbone(x_in, t, (tokens, turn), r, noise)
    assert not output.any()
    # Both ways to the output learn at the first step.
    (output - noise).square().mean().backward()
    assert backbone.head.weight.grad.abs().max() > 0 and backbone.linear.weight.grad.abs().max() > 0


@pytest.mark.parametrize("decoupled", [False, True])
def test_every_parameter_learns(decoupled: bool):
    backbone, (degraded, x_in, noise, t, r) = network(decoupled=decoupled).train(), example()
    backbone(x_in, t, features(backbone, degraded), r, noise).square().mean().backward()
    assert [name for name, parameter in backbone.named_parameters() if not parameter.grad.abs().max() > 0] == []
    assert backbone.pretrained() == {}
