"""Distances over a network's features: their values against float64, and their names."""

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from restoration.backbone.perceptual import perceptual_distance
from restoration.batch import Batch
from restoration.classifier import Classifier
from restoration.metrics.collector import Collector, MethodResults
from restoration.metrics.frechet import FrechetDistance, classifier_distance, encoder_distance

RUN = {"run": {"experiment": "mnist_digits", "label": "seed=0/two"}}


def classifier(name: str = "test_resnet", **options: object) -> Classifier:
    """Of a run, with batch statistics that are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = Classifier(name, ["a", "b"], options=options)
        for key, value in made.model.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
    made.config = RUN
    return made.eval()


def images(count: int = 4, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def by_hand(maps: list[Tensor], others: list[Tensor]) -> Tensor:
    """Position by position, in float64."""
    found = torch.zeros(len(maps[0]), dtype=torch.float64)
    for own, other in zip(maps, others, strict=True):
        batch, _, height, width = own.shape
        for b in range(batch):
            for y in range(height):
                for x in range(width):
                    one, two = own[b, :, y, x].double(), other[b, :, y, x].double()
                    found[b] += (one / one.norm() - two / two.norm()).square().sum() / (height * width * len(maps))
    return found


def test_perceptual_distance_against_float64():
    generator = torch.Generator().manual_seed(1)
    maps, others = ([torch.randn(3, c, s, s, generator=generator) for c, s in ((5, 4), (9, 2))] for _ in range(2))
    torch.testing.assert_close(perceptual_distance(maps, others).double(), by_hand(maps, others), atol=1e-6, rtol=0)
    # Equal up to a factor is equal; opposite is the largest distance, 4.
    assert perceptual_distance(maps, [3 * each for each in maps]).abs().max() < 1e-6
    torch.testing.assert_close(perceptual_distance(maps, [-each for each in maps]), torch.full((3,), 4.0))


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_resnet", {}), ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2})],
)
def test_distances_over_a_classifier(name: str, options: dict[str, object]):
    """Per image and float64 for the perceptual one; the same network gives both their names."""
    judge = classifier(name, **options)
    distance = classifier_distance(judge)
    assert (distance.name, distance.perceptual) == (
        "frechet_mnist_digits_seed_0_two",
        "perceptual_mnist_digits_seed_0_two",
    )
    clean, restored = images(), (images() + 0.3 * images(seed=1)).clamp(0, 1)
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    batch = Batch(clean, restored, mask, torch.zeros(4), torch.arange(4))
    results = MethodResults()
    results.add([restored], batch, [distance], [distance.maps(clean)])
    found = results.columns()[distance.perceptual]
    double = classifier(name, **options).double()
    wanted, own = (
        double.model.forward_intermediates((each.double() - double.mean) / double.std, intermediates_only=True)
        for each in (clean, restored)
    )
    # The deepest map of each resolution: for test_resnet all, for a transformer the last.
    last = slice(None) if name == "test_resnet" else slice(-1, None)
    expected = by_hand(own[last], wanted[last])
    assert expected.min() > 1e-4
    torch.testing.assert_close(torch.from_numpy(found).double(), expected, atol=1e-5, rtol=1e-3)


def test_the_encoder_file_of_a_run_gives_the_same_distances_under_the_same_name(tmp_path):
    judge = classifier()
    judge.write(tmp_path / "encoder.safetensors")
    with safe_open(tmp_path / "encoder.safetensors", "pt") as file:
        assert file.metadata()["run"] == "mnist_digits_seed_0_two"
    encoder = {"model": "test_resnet", "weights": str(tmp_path / "encoder.safetensors"), "stem": "imagenet"}
    from_file, own = encoder_distance(encoder), classifier_distance(judge)
    assert from_file is not None and from_file.name == own.name
    for one, other in zip(from_file.maps(images()), own.maps(images()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_file_that_a_user_named_keeps_its_name(tmp_path):
    classifier().write(tmp_path / "resnet34_tiny_imagenet.safetensors")
    encoder = {"model": "test_resnet", "weights": str(tmp_path / "resnet34_tiny_imagenet.safetensors")}
    distance = encoder_distance({**encoder, "stem": "no_pool"} | {"stem": "imagenet"})
    assert distance is not None and distance.name == "frechet_resnet34_tin_imagenet"


class Same(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


def test_each_network_has_its_own_distances():
    """Over two networks: the mean over images of each, and the Fréchet distance, under four names."""
    networks = [FrechetDistance(Same(), "frechet_pixels"), classifier_distance(classifier())]
    clean, restored = images(12), (images(12) + 0.2 * images(12, seed=2)).clamp(0, 1)
    collector = Collector([1], [], networks)
    for part in torch.arange(12).split(5):
        mask = torch.zeros(len(part), 1, 32, 32, dtype=torch.bool)
        batch = Batch(clean[part], restored[part], mask, torch.zeros(len(part)), part)
        collector.add(batch, {"identity": [batch.degraded], 1: [batch.clean]})
    identity = collector.methods["identity"]
    expected = by_hand([2 * restored - 1], [2 * clean - 1])
    torch.testing.assert_close(
        torch.from_numpy(identity.columns()["perceptual_pixels"]).double(), expected, atol=1e-5, rtol=1e-3
    )
    for network in networks:
        assert collector.methods[1].columns()[network.perceptual].max() < 1e-6
        clean_features = collector._clean_features[network.name]
        table = identity.frechet_table(network.name, clean_features)
        assert table[network.name] > 1e-6
        assert (
            collector.methods[1].frechet_table(network.name, clean_features)[network.name] < 1e-3 * table[network.name]
        )
