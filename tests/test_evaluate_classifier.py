"""What a classifier recognises in clean, degraded and restored images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, complaint, run_command
from mnist_files import write_digits
from PIL import Image

from restoration import evaluate, pretrain, train

QUICK = ["trainer.max_steps=2", "trainer.num_sanity_val_steps=0", "logger.wandb=null", "name=run"]
RESTORER = [*(item for item in TINY if not item.startswith("data")), "data=mnist", "data.batch_size=8"]
CHECKPOINT, CLASSIFIER = "checkpoint=outputs/blur_erase/run", "classifier=outputs/mnist_digits/run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A restorer and a classifier of the same tiny digits."""
    folder = tmp_path_factory.mktemp("trained")
    write_digits(folder / "data", train=90, test=40)
    for number in range(8):
        path = folder / "photos" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (10 * number, 0, 0)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        digits = ["experiment=mnist_digits", "data.batch_size=8", "callbacks.progress_bar=null", *QUICK]
        assert run_command(pretrain.main, *digits, "trainer.max_steps=30", "trainer.precision=32-true") == 0
        assert run_command(train.main, "experiment=blur_erase", *RESTORER, *QUICK, "evaluation.nfe=[1]") == 0
    return folder


def test_top1_of_clean_degraded_and_restored(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(trained)
    assert run_command(evaluate.main, CHECKPOINT, CLASSIFIER, "evaluation.images=null", "evaluation.nfe=[1,2]") == 0
    assert "top1" in capsys.readouterr().out
    place = trained / "outputs/blur_erase/run/evaluation"
    metrics = json.loads((place / "metrics.json").read_text())
    own = json.loads((trained / "outputs/mnist_digits/run/metrics.json").read_text())
    assert metrics["n"] == 40 and metrics["clean"]["top1"] == pytest.approx(own["top1"], abs=1e-6) and own["top1"] > 0.2
    with (place / "per_image.csv").open(newline="") as file:
        images = list(csv.DictReader(file))
    for name, found in {
        "clean_top1": metrics["clean"],
        "identity_top1": metrics["identity"],
        "top1": metrics["by_nfe"][1],
    }.items():
        column = [float(row[name]) for row in images if row["nfe"] == "2"]
        assert len(column) == 40 and found["top1"] == pytest.approx(np.mean(column))
        assert found["top1_ci"][0] <= found["top1"] <= found["top1_ci"][1]
    # The groups by severity make up the whole.
    groups = metrics["by_severity"]
    for pick in (lambda g: g["clean"], lambda g: g["identity"], lambda g: g["by_nfe"][0]):
        assert sum(group["n"] * pick(group)["top1"] for group in groups) / 40 == pytest.approx(pick(metrics)["top1"])
    assert "top1" not in metrics["classical"]["mean_fill"]


def test_images_without_damage_are_recognised_as_clean(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained)
    whole = ["corruption.strength=0", "corruption.severity=fixed", "output=still", "evaluation.images=8"]
    assert run_command(evaluate.main, CHECKPOINT, CLASSIFIER, *whole) == 0
    metrics = json.loads((trained / "still/metrics.json").read_text())
    assert metrics["identity"]["top1"] == metrics["clean"]["top1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CLASSIFIER, "data=dead_leaves", "data.train_images=4", "data.test_images=4"], "the data have no classes"),
        ([CLASSIFIER, "data=class_folder", "data.root=photos"], "knows 10 (0, 1, 2 …) classes, and the data have 2 (0"),
        (["classifier=outputs/blur_erase/run"], "is a checkpoint of a restorer; give one of a classifier"),
        (["classifier=nowhere"], "no checkpoint at nowhere"),
        (["checkpoint=outputs/mnist_digits/run"], "is a checkpoint of a classifier; give one of a restorer"),
    ],
)
def test_a_mistake_is_one_line(
    trained: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(trained)
    assert run_command(evaluate.main, CHECKPOINT, "output=new", *arguments) == 2
    assert message in complaint(capsys)
