"""The FID, against torch-fidelity's own; its weights are random here, because the true ones are a download."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from restoration.errors import UserError
from restoration.metrics.fid import Inception
from restoration.metrics.frechet import FeatureStatistics, FrechetDistance, encoder_distance, frechet_distance

fidelity = pytest.importorskip("torch_fidelity")
extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights."""
    path = tmp_path_factory.mktemp("fid") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        network = extractor.FeatureExtractorInceptionV3("fid", ["2048"], str(path))
    torch.save(network.state_dict(), path)
    return path


class Images(Dataset[torch.Tensor]):
    """Random images of 8 bits, darker by a factor."""

    def __init__(self, seed: int, factor: float) -> None:
        pixels = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        self.pixels = (255 * factor * pixels).round().to(torch.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pixels[index]


@pytest.mark.slow
def test_it_is_the_fid_of_torch_fidelity(weights: Path):
    one, other = Images(0, 1.0), Images(1, 0.8)
    theirs = fidelity.calculate_metrics(
        input1=one, input2=other, fid=True, cuda=False, verbose=False, cache=False, save_cpu_ram=True,
        feature_extractor_weights_path=str(weights),
    )["frechet_inception_distance"]  # fmt: skip
    distance = encoder_distance({"model": "inception", "weights": str(weights), "stem": None})
    assert distance is not None and distance.name == "frechet_inception"
    statistics = [FeatureStatistics(), FeatureStatistics()]
    for each, images in zip(statistics, (one, other), strict=True):
        each.update(distance.features(images.pixels.float() / 255))
    assert frechet_distance(*statistics) == pytest.approx(theirs, rel=1e-3) and theirs > 0


def test_images_are_rounded_to_8_bits_once(weights: Path):
    inception = Inception(weights)
    pixels = Images(0, 1.0).pixels[:2]
    expected = inception.network(pixels)[0]
    for less in (-0.3, 0.3):  # of a grey level: not cut off, but rounded
        shifted = (pixels.float() + less).clamp(0, 255) / 255
        features = FrechetDistance(inception, "frechet_inception").features(shifted)
        assert features.shape == (2, 2048) and torch.equal(features, expected)


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"frechet.model=inception has no choice of a stem"):
        encoder_distance({"model": "inception", "weights": None, "stem": "no_pool"})
    with pytest.raises(UserError, match=r"frechet.weights=gone.pth: there is no such file"):
        Inception("gone.pth")
    other = tmp_path / "other.pth"
    torch.save({"conv": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"not those of torch-fidelity's Inception: Error"):
        Inception(other)
    other.write_bytes(b"not weights")
    with pytest.raises(UserError, match="not those of torch-fidelity's Inception"):
        Inception(other)

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(extractor, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"could not be downloaded \(no network\).*frechet.weights="):
        Inception()
