"""The Fréchet distance of the evaluate command: over which encoder it is, and its name."""

import json
from pathlib import Path

import pytest
from helpers import FEW_PASSES, TINY, complaint, encoder_file, run_command
from torch import Tensor, nn

from restoration import train
from restoration.evaluate import main
from restoration.metrics import frechet
from restoration.metrics.frechet import encoder_distance

RUN = Path("outputs/blur_erase/run")


class Means(nn.Module):
    """In place of the network of the FID, whose weights are a download: the mean colours."""

    def __init__(self, weights: str | None) -> None:
        super().__init__()
        assert weights is None

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images.mean(dim=(2, 3), keepdim=True)]


def evaluate(*arguments: str) -> int:
    small = ["evaluation.images=4", "evaluation.nfe=[1,2]", "evaluation.spread_samples=0", "device=cpu"]
    return run_command(main, f"checkpoint={RUN / 'checkpoints' / 'best.ckpt'}", *small, *arguments)


def test_a_run_without_an_encoder_is_evaluated_over_a_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    (tmp_path / "conf" / "backbone" / "plain.yaml").write_text("_target_: tiny.Plain\n")
    tiny = [argument for argument in (*TINY, *FEW_PASSES) if not argument.startswith("backbone.")]
    arguments = ["experiment=blur_erase", "backbone=plain", *tiny, "trainer.max_steps=1"]
    assert run_command(train.main, *arguments, flags=["--config-dir", str(tmp_path / "conf")]) == 0
    weights = f"frechet.weights={encoder_file(tmp_path)}"
    capsys.readouterr()
    assert evaluate(weights, "trust=tiny") == 2 and "no encoder of its own" in complaint(capsys)
    assert evaluate(weights, "trust=tiny", "frechet.model=test_resnet", "frechet.stem=no_pool") == 0
    assert "frechet_test_resnet" in json.loads((RUN / "evaluation" / "metrics.json").read_text())["restored"]
    monkeypatch.setattr(frechet, "Inception", Means)
    assert evaluate("frechet.model=inception", "trust=tiny", "overwrite=true") == 0
    assert "frechet_inception" in json.loads((RUN / "evaluation" / "metrics.json").read_text())["restored"]


def test_random_features_give_no_distance():
    assert encoder_distance({"model": "test_resnet", "weights": "random", "stem": "imagenet"}) is None


def test_a_distance_is_named_by_its_stem(tmp_path: Path):
    weights = str(encoder_file(tmp_path))
    encoders = ({"model": "test_resnet", "weights": weights, "stem": stem} for stem in ("no_pool", "imagenet"))
    names = [distance.name for distance in map(encoder_distance, encoders) if distance is not None]
    assert names == ["frechet_test_resnet", "frechet_test_resnet_imagenet"]
