"""Where a classifier sees its class, where that is known."""

import sys

import pytest
import torch
from torch import Tensor, nn

from restoration.classifier import Classifier
from restoration.classifier.grad_cam import class_maps
from restoration.errors import UserError

CLASSES = ["top left", "top right", "bottom left", "bottom right"]


class Quarters(nn.Module):
    """Channel k is the red of the image in quarter k, and 0 elsewhere; with a weight, so that it is a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        inside = torch.zeros(4, *images.shape[-2:])
        for quarter in range(4):
            top, left = half * (quarter // 2), half * (quarter % 2)
            inside[quarter, top : top + half, left : left + half] = 1
        return self.weight * images[:, :1] * inside


class Regions(nn.Module):
    """The score of a class is ten times the mean over one quarter of the image."""

    feature_info = [{"module": "quarters"}]

    def __init__(self) -> None:
        super().__init__()
        self.quarters = Quarters()

    def forward(self, images: Tensor) -> Tensor:
        return 40 * self.quarters(images).mean(dim=(2, 3))


@pytest.fixture
def regions() -> Classifier:
    """On images as they are, without normalisation."""
    pytest.importorskip("pytorch_grad_cam")
    classifier = Classifier("test_resnet", CLASSES).eval()
    classifier.model, classifier.mean, classifier.std = Regions(), torch.zeros(1), torch.ones(1)
    return classifier


@pytest.mark.parametrize("frozen", [False, True])
def test_the_map_is_the_region_of_the_class(regions: Classifier, frozen: bool):
    """Grad-CAM is the channel of the class times its constant gradient: the image in its quarter, the largest as 1."""
    regions.requires_grad_(not frozen)
    images = 0.5 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(4, 8, 8)
    for quarter in range(4):
        rows, columns = (slice(4 * place, 4 * place + 4) for place in divmod(quarter, 2))
        images[quarter, 0, rows, columns] += 0.4
        own = images[quarter, 0, rows, columns]
        expected[quarter, rows, columns] = own / own.max()
    with torch.no_grad():
        found = class_maps(regions, images)
        scores = regions(images).double()
    assert found.answers.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found.maps, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probabilities.double(), scores.softmax(1).diagonal(), atol=1e-6, rtol=0)
    assert all(weight.grad is None for weight in regions.parameters())


def test_a_coarse_map_is_no_map(regions: Classifier):
    """It is said, not drawn: 3 x 3 positions."""
    with pytest.raises(UserError, match="no feature map of 4 x 4"):
        class_maps(regions, torch.rand(1, 3, 3, 3))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {}),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}),  # a class token
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "global_pool": "avg", "reg_tokens": 3}),
        ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 4, "depths": (1, 1), "embed_dim": 24}),
    ],
)
def test_a_map_of_any_network_has_the_size_of_its_image(name: str, options: dict[str, object]):
    pytest.importorskip("pytorch_grad_cam")
    torch.manual_seed(0)
    if "depths" in options:
        options = {**options, "num_heads": (2, 2)}
    classifier = Classifier(name, CLASSES, options=options).eval()
    images = torch.rand(2, 3, 32, 32)
    found = class_maps(classifier, images)
    assert found.maps.shape == (2, 32, 32)
    assert found.maps.min() == 0 and torch.allclose(found.maps.amax((1, 2)), torch.ones(2), atol=1e-4)
    assert torch.equal(found.answers, classifier(images).argmax(1))


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-7)


def test_the_map_of_a_transformer_by_the_definition():
    """Four by four tokens after the class token: channels weighted by their mean gradient, and what is positive."""
    pytest.importorskip("pytorch_grad_cam")
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "depth": 2, "num_heads": 2, "embed_dim": 16}
    classifier = Classifier("vit_tiny_patch16_224", CLASSES, options=options).eval()
    images, kept = torch.rand(4, 3, 32, 32), []
    found = class_maps(classifier, images)
    classifier.model.blocks[1].norm1.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    scores = classifier(images).max(dim=1).values
    (gradient,) = torch.autograd.grad(scores.sum(), kept[0])
    weighted = (kept[0][:, 1:] * gradient[:, 1:].mean(dim=1, keepdim=True)).sum(dim=2).relu()
    coarse = scaled(weighted.detach().view(4, 4, 4))
    expected = nn.functional.interpolate(coarse[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
    assert (expected > 0).any(dim=2).any(dim=1).sum() > 2
    torch.testing.assert_close(found.maps, scaled(expected), atol=1e-3, rtol=0)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    classifier = Classifier("test_resnet", CLASSES).eval()
    with pytest.raises(UserError, match=r"pip install 'restoration\[cam\]'"):
        class_maps(classifier, torch.rand(1, 3, 32, 32))
