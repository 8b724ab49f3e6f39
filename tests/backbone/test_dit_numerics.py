"""The transformer's derivatives, precisions, memory formats, dropout and sizes."""

from collections.abc import Callable

import pytest
import torch
from helpers import composed
from hydra.utils import instantiate
from test_dit import example, features, network
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from restoration.backbone import DiT
from restoration.errors import UserError

# Parameters of the presets, and the most they may have.
PRESETS = {
    "dit_tiny": (561_232, 600_000),
    "dit_small": (2_306_000, 2_500_000),
    "dit": (8_587_568, 9_000_000),
    "dit_large": (32_645_040, 33_000_000),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_their_sizes(preset: str):
    with composed("train", f"backbone={preset}", "folder=run") as config, torch.device("meta"):
        made = instantiate(config.backbone)
    count, limit = PRESETS[preset]
    assert sum(parameter.numel() for parameter in made.parameters()) == count <= limit


def test_a_width_that_does_not_fit_the_heads_is_refused():
    with pytest.raises(UserError, match="backbone.width=100 must be a multiple of 12, four times backbone.heads=3"):
        DiT(width=100, heads=3)


def derivative(output: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> list[Tensor]:
    """Value and derivative, in forward mode."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        return list(torch.func.jvp(output, at, along))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("direction", ["x_in", "t", "r", "all"])
def test_the_jvp_equals_central_differences(direction: str, decoupled: bool, monkeypatch: pytest.MonkeyPatch):
    """In float64; the casts to float32 would hide the differences. The noise changes with x_in, as in a flow map."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    backbone = network(decoupled=decoupled).double()
    degraded, x_in, noise, t, r = (part.double() for part in example())
    along = [torch.randn_like(x_in), torch.ones_like(t), -torch.ones_like(r)]
    for number, name in enumerate(("x_in", "t", "r")):
        along[number] = along[number] * (direction in (name, "all"))
    with torch.no_grad():
        seen = features(backbone, degraded)

    def output(x: Tensor, time: Tensor, end: Tensor) -> Tensor:
        return backbone(x, time, seen, end, noise + 0.5 * x)

    at, h = (x_in, t, r), 1e-5
    value, tangent = derivative(output, at, tuple(along))
    with torch.no_grad():
        torch.testing.assert_close(value, output(*at))
        ahead, behind = (
            output(*(place + sign * h * step for place, step in zip(at, along, strict=True))) for sign in (1, -1)
        )
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-5)
    assert tangent.abs().max() > 0.1


@pytest.mark.parametrize("first", [pytest.param("plain", marks=pytest.mark.slow), "jvp"])
def test_a_compiled_transformer_has_the_same_derivatives(first: str):
    """A JVP runs as eager code. Without inductor, which takes minutes on a CPU."""
    backbone, (degraded, x_in, noise, t, r) = network(), example()
    seen = features(backbone, degraded)

    def output(x: Tensor, time: Tensor) -> Tensor:
        return backbone(x, time, seen, r, noise)

    at, along = (x_in, t), (torch.randn_like(x_in), torch.ones_like(t))
    expected, plain = derivative(output, at, along), output(*at)
    torch._dynamo.reset()
    backbone.compile(backend="aot_eager")
    if first == "plain":
        torch.testing.assert_close(output(*at), plain)
    for got, wanted in zip(derivative(output, at, along), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(output(*at), plain)


@torch.no_grad()
def test_bfloat16_is_close_and_the_sum_of_the_blocks_stays_in_float32():
    backbone, (degraded, x_in, noise, t, r) = network(), example()
    exact = backbone(x_in, t, features(backbone, degraded), r, noise)
    sums: list[torch.dtype] = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda *call: sums.append(call[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = backbone(x_in, t, features(backbone, degraded), r, noise)
        assert torch.equal(
            backbone(x_in, t, features(backbone, degraded), t, noise), backbone(x_in, t, features(backbone, degraded))
        )
    assert rounded.dtype == torch.float32 and set(sums) == {torch.float32}
    assert 0 < (rounded - exact).std() < 0.02 * exact.std()


@torch.no_grad()
def test_memory_formats_give_the_same():
    backbone, images = network(), example()
    results = []
    for form in (torch.contiguous_format, torch.channels_last):
        degraded, x_in, noise = (image.contiguous(memory_format=form) for image in images[:3])
        backbone.to(memory_format=form)
        results.append(backbone(x_in, images[3], features(backbone, degraded), images[4], noise))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["dropout", "attention_dropout"])
@torch.no_grad()
def test_dropout_draws_from_the_global_generator_in_training_only(where: str):
    backbone, (degraded, x_in, _, t, _) = network(**{where: 0.3}).train(), example()

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return backbone(x_in, t, features(backbone, degraded))

    assert torch.equal(output(0), output(0)) and not torch.equal(output(0), output(1))
    # What a resumed run does: the generator does not stand where it stood.
    assert not torch.equal(output(0), backbone(x_in, t, features(backbone, degraded)))
    backbone.eval()
    assert torch.equal(output(0), output(1))
