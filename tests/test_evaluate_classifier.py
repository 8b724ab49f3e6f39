"""What a classifier recognises in clean, degraded and restored images."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, complaint, run_command, without_account
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


def test_distances_over_the_classifier_and_where_it_sees_its_answers(
    trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.chdir(trained)
    few = ["output=seen", "evaluation.images=4", "evaluation.nfe=[1]", "evaluation.spread_samples=0"]
    names = ("frechet_mnist_digits_run", "perceptual_mnist_digits_run")
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert run_command(evaluate.main, CHECKPOINT, CLASSIFIER, *few) == 0
    assert "pip install 'restoration[cam]'" in caplog.text
    assert not (trained / "seen/images/grad_cam.png").exists()
    metrics = json.loads((trained / "seen/metrics.json").read_text())
    assert all(metrics[kind][name] > 0 for name in names for kind in ("identity", "restored"))
    monkeypatch.undo()
    monkeypatch.chdir(trained)
    pytest.importorskip("pytorch_grad_cam")
    assert run_command(evaluate.main, CHECKPOINT, CLASSIFIER, *few, "overwrite=true") == 0
    picture = np.asarray(Image.open(trained / "seen/images/grad_cam.png")).astype(int)
    orange = (picture[..., 0] - picture[..., 2] > 100) & (picture[..., 1] < picture[..., 0])
    assert min(picture.shape[:2]) > 300 and orange.any()
    # The file of the run gives the same distances under the same names, and says which network it is.
    own = "frechet.weights=outputs/mnist_digits/run/encoder.safetensors"
    assert run_command(evaluate.main, CHECKPOINT, own, *few, "overwrite=true") == 0
    again = json.loads((trained / "seen/metrics.json").read_text())
    for name in names:
        assert again["identity"][name] == pytest.approx(metrics["identity"][name], rel=1e-3)


def test_a_training_ends_with_the_judgement_of_its_classifier(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained)
    without_account(monkeypatch, trained)
    judged = [word for word in [*RESTORER, *QUICK] if word != "logger.wandb=null"]
    judged += ["evaluation.nfe=[1]", "evaluation.images=4", CLASSIFIER, "name=judged"]
    assert run_command(train.main, "experiment=blur_erase", *judged) == 0
    place = Path("outputs/blur_erase/judged")
    assert list(place.rglob("wandb/**/media/images/test/grad_cam*.png"))
    metrics = json.loads((place / "metrics.json").read_text())
    assert {"top1", "perceptual_mnist_digits_run"} <= metrics["restored"].keys()
    # Its evaluation is repeated with the same classifier.
    assert run_command(evaluate.main, f"checkpoint={place}") == 0
    again = json.loads((place / "evaluation/metrics.json").read_text())
    assert again["restored"]["top1"] == metrics["restored"]["top1"]


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
