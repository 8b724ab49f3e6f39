"""Classifiers evaluated by themselves: one, several as an ensemble, and mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import complaint, run_command
from mnist_files import SHORT, write_digits
from torch.nn import functional as F

from restoration import evaluate, pretrain
from restoration.classifier import Classifier
from restoration.data.mnist import MNIST

RUNS = "outputs/mnist_digits"
QUICK = [*SHORT, "trainer.max_steps=12"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with other seeds, and one fold of a third."""
    folder = tmp_path_factory.mktemp("trained")
    write_digits(folder / "data", train=90, test=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(pretrain.main, *QUICK, "name='a,1'") == 0
        assert run_command(pretrain.main, *QUICK, "name=b", "seed=1") == 0
        assert run_command(pretrain.main, *QUICK, "name=fold", "data.folds=2", "data.fold=1") == 0
    return folder


def metrics(place: Path) -> dict[str, Any]:
    return json.loads((place / "metrics.json").read_text())


def test_one_classifier_has_the_figures_of_its_run(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(trained)
    assert run_command(evaluate.main, f"classifier={RUNS}/b") == 0
    assert "top1" in capsys.readouterr().out
    own, found = metrics(trained / RUNS / "b"), metrics(trained / RUNS / "b/evaluation")
    for name in ("n", "top1", "top5", "f1", "ece", "auroc", "nll", "top1_ci"):
        assert found[name] == pytest.approx(own[name], abs=1e-6), name
    assert (trained / RUNS / "b/evaluation/images/confusion.png").is_file()


def test_two_are_the_mean_of_their_probabilities(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained)
    assert run_command(evaluate.main, f"classifier=['{RUNS}/a,1', {RUNS}/b/checkpoints/best.ckpt]", "device=cpu") == 0
    found = metrics(trained / RUNS / "ensemble")
    data = MNIST(None, root="data", eval_batch_size=40)
    (batch,) = data.batches("test")
    members = [Classifier.load(trained / RUNS / name / "checkpoints/best.ckpt") for name in ("a,1", "b")]
    with torch.no_grad():
        first, second = (member(batch.clean).double().softmax(dim=1) for member in members)
    mean = (first + second) / 2
    assert found["top1"] == pytest.approx(float((mean.argmax(1) == batch.label).double().mean()))
    assert found["nll"] == pytest.approx(float(F.nll_loss(mean.log(), batch.label)), abs=1e-5)
    assert found["run"]["checkpoint"] == [f"{RUNS}/a,1", f"{RUNS}/b/checkpoints/best.ckpt"]
    assert found["n"] == 40 and found["run"]["seed"] is None

    assert run_command(evaluate.main, f"classifier=[{RUNS}/b,{RUNS}/b]", "output=twice") == 0
    twice, once = metrics(trained / "twice"), metrics(trained / RUNS / "b")
    for name in ("n", "top1", "top5", "f1", "ece", "auroc", "nll", "top1_ci"):
        assert twice[name] == pytest.approx(once[name], abs=1e-6), name


def test_the_split_of_the_run_can_be_another(trained: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trained)
    one = [f"classifier={RUNS}/fold", "split=selection", "output=selection"]
    assert run_command(evaluate.main, *one) == 0 and metrics(trained / "selection")["n"] == 3
    whole = [f"classifier=[{RUNS}/fold,{RUNS}/b]", "data.folds=null", "data.fold=null", "output=whole"]
    assert run_command(evaluate.main, *whole) == 0 and metrics(trained / "whole")["n"] == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate: give checkpoint="),
        (["classifier=[]"], "classifier is empty"),
        (["classifier=3"], "no checkpoint at 3"),
        ([f"classifier={RUNS}/b", "corruption.strength=1"], "corruption.strength is about a restorer"),
        ([f"classifier={RUNS}/b", "tune=true"], "tune is about a restorer: give its checkpoint= too"),
        ([f"classifier=[{RUNS}/b,nowhere]"], "no checkpoint at nowhere"),
        ([f"classifier=[{RUNS}/fold,{RUNS}/b]"], "data.fold=1 is not the test of every run"),
        ([f"classifier={RUNS}/fold", "data.fold=0"], "data.fold=0 is not the test of every run"),
        ([f"classifier=[{RUNS}/b,wide.ckpt]"], "these runs have images of 32 and 64 pixels; give data.image_size="),
        ([f"classifier=[{RUNS}/b,other.ckpt]"], "number 2 knows 2 (x, y), number 1 knows 10 (0, 1, 2 …)"),
        ([f"classifier={RUNS}/b", "data=dead_leaves", "data.train_images=4"], "the data have no classes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(trained: Path, arguments: list[str], message: str, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    checkpoint = torch.load(f"{RUNS}/b/checkpoints/best.ckpt", weights_only=True)
    checkpoint["config"]["data"]["image_size"] = 64
    torch.save(checkpoint, "wide.ckpt")
    checkpoint["config"]["data"]["image_size"] = 32
    other = Classifier("test_resnet", ["x", "y"])
    checkpoint["config"]["model"]["classes"] = ["x", "y"]
    checkpoint["state_dict"] = {f"classifier.{name}": value for name, value in other.state_dict().items()}
    torch.save(checkpoint, "other.ckpt")
    assert run_command(evaluate.main, "output=new", *arguments) == 2
    assert message in complaint(capsys)
