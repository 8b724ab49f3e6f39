"""The plain U-Net: what it reads, what it starts from, and that every size of its stride goes through."""

import pytest
import torch
from torch import Tensor, nn

from restoration.backbone import UNet
from restoration.estimator import Estimate


@pytest.fixture
def backbone() -> UNet:
    """With random weights also in the last layer, which is zero-initialised."""
    backbone = UNet((8, 12, 16), embedding=16).eval()
    nn.init.normal_(backbone.head.weight, std=0.3)
    return backbone


def estimate(count: int = 2, size: tuple[int, int] = (12, 20)) -> dict[str, Tensor]:
    return {
        "initial": torch.rand(count, 3, *size) * 2 - 1,
        "residual_std": torch.rand(count, 1, *size),
        "hole": (torch.rand(count, 1, *size) > 0.5).float(),
    }


def test_the_output_is_zero_at_first():
    backbone, degraded = UNet((8, 12, 16), embedding=16), torch.randn(2, 3, 12, 20)
    features = backbone.encode(degraded, Estimate(**estimate()))
    assert torch.equal(backbone(torch.randn(2, 3, 12, 20), torch.rand(2), features), torch.zeros(2, 3, 12, 20))


@torch.no_grad()
@pytest.mark.parametrize("changed", ["x_in", "t", "degraded", "initial", "residual_std", "hole"])
def test_every_input_counts(backbone: UNet, changed: str):
    given = {"x_in": torch.randn(2, 3, 12, 20), "t": torch.tensor([0.0, 0.5]), "degraded": torch.randn(2, 3, 12, 20)}
    given |= estimate()
    other = given | {changed: 1 - given[changed]}

    def output(values: dict[str, Tensor]) -> Tensor:
        parts = {name: values[name] for name in estimate()}
        return backbone(values["x_in"], values["t"], backbone.encode(values["degraded"], Estimate(**parts)))

    assert torch.equal(output(given), output(given))
    assert (output(given) - output(other)).abs().max() > 1e-4


@torch.no_grad()
def test_an_exact_estimate_is_finite(backbone: UNet):
    """A residual std of 0, as of an intact image, has no logarithm."""
    exact = estimate() | {"residual_std": torch.zeros(2, 1, 12, 20)}
    features = backbone.encode(torch.randn(2, 3, 12, 20), Estimate(**exact))
    assert backbone(torch.zeros(2, 3, 12, 20), torch.zeros(2), features).isfinite().all()


@torch.no_grad()
def test_images_of_a_batch_are_independent_outside_training(backbone: UNet):
    whole, degraded, x_in = estimate(), torch.randn(2, 3, 12, 20), torch.randn(2, 3, 12, 20)
    together = backbone(x_in, torch.tensor([0.1, 0.9]), backbone.encode(degraded, Estimate(**whole)))
    one = Estimate(**{name: value[1:] for name, value in whole.items()})
    alone = backbone(x_in[1:], torch.tensor([0.9]), backbone.encode(degraded[1:], one))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 4), (8, 36), (64, 32)])
def test_every_multiple_of_the_stride_goes_through(backbone: UNet, size: tuple[int, int]):
    assert backbone.stride == 4
    features = backbone.encode(torch.rand(1, 3, *size), Estimate(**estimate(1, size)))
    assert backbone(torch.rand(1, 3, *size), torch.zeros(1), features).shape == (1, 3, *size)


@torch.no_grad()
@pytest.mark.parametrize("side", [4, 16, 64])
def test_borders_and_size_are_no_cue(backbone: UNet, side: int):
    """A constant image has a constant result, the same at every size; zeros around it would mark its border."""
    colour = torch.tensor([0.3, -0.2, 0.6])[None, :, None, None]

    def result(side: int) -> Tensor:
        parts = {"initial": colour, "residual_std": torch.tensor(0.5), "hole": torch.tensor(0.0)}
        sizes = {"initial": 3, "residual_std": 1, "hole": 1}
        constant = {name: value.expand(1, sizes[name], side, side) for name, value in parts.items()}
        features = backbone.encode(colour.expand(1, 3, side, side), Estimate(**constant))
        return backbone(torch.zeros(1, 3, side, side), torch.zeros(1), features)

    expected = result(96)[..., :1, :1]
    torch.testing.assert_close(result(side), expected.expand(1, 3, side, side), atol=1e-4, rtol=1e-4)
    assert expected.abs().max() > 0.01
