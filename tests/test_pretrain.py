"""Classifiers by the real command on tiny data: results, encoder, resume, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import wandb
from helpers import callback_file, complaint, differing, last, run_command
from mnist_files import SHORT, write_digits
from PIL import Image
from safetensors import safe_open

from restoration.backbone import Encoder
from restoration.classifier import Classifier
from restoration.errors import UserError
from restoration.pretrain import main
from restoration.run.failed_batch import repeat

RUN = [*SHORT, "data.eval_batch_size=8", "validations=2"]
STEPS = ["trainer.max_steps=12", "trainer.val_check_interval=6"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "data", train=90, test=40)
    yield tmp_path / "outputs" / "mnist_digits" / "run"
    wandb.teardown()


def test_a_run_leaves_results_and_an_encoder(folder: Path):
    assert run_command(main, *RUN, *STEPS, "model.stem=no_pool") == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["n"] == 40 and metrics["images_seen"] == 96 and metrics["run"]["steps"] == 12
    assert all(0 <= metrics[name] <= 1 for name in ("top1", "top5", "f1", "ece")) and metrics["seconds"] > 0
    assert metrics["top1_ci"][0] <= metrics["top1"] <= metrics["top1_ci"][1]
    assert (folder / "provenance.json").is_file() and (folder / "config.yaml").is_file()

    # The features of a restorer's encoder are those of the classifier on the same images.
    file = folder / "encoder.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["stem"] == "no_pool"
    classifier = Classifier.load(folder / "checkpoints" / "best.ckpt")
    encoder = Encoder("test_resnet", str(file), "no_pool").eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        deepest = encoder(2 * images - 1)[-1]
        expected = classifier.model.forward_features((images - classifier.mean) / classifier.std)
        torch.testing.assert_close(deepest, expected, atol=1e-5, rtol=1e-5)
        # The EMA's weights, not the first ones.
        assert differing(Encoder("test_resnet", "random", "no_pool").state_dict(), encoder.state_dict())
        again = Classifier("test_resnet", classifier.classes, str(file), "no_pool").eval()
        torch.testing.assert_close(again(images), classifier(images))
    with pytest.raises(UserError, match=r"were trained with stem=no_pool; give backbone.encoder.stem=no_pool"):
        Encoder("test_resnet", str(file), "imagenet")
    with pytest.raises(UserError, match="do not fit"):
        Encoder("resnet10t", str(file), "no_pool")


def test_resume_is_bit_identical_with_every_kind_of_draw(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Stopped after step 5 of 12, in the middle of an epoch; mixtures, RandAugment and dropout draw at random."""
    own = [*RUN, *STEPS, "augmentation=mix", "augmentation.operations=1", "model.options.drop_rate=0.3"]
    assert run_command(main, *own) == 0
    flags = callback_file(tmp_path / "conf", "helpers.Kill", "classifier", step=5)
    assert run_command(main, *own, "name=stopped", "callbacks=extended", flags=flags) == 143
    stopped = folder.with_name("stopped")
    assert last(stopped)["global_step"] == 5
    again = ["experiment=mnist_digits", "trust=helpers", "name=stopped", "resume=auto"]
    assert f"stopped; continue with: python -m restoration.pretrain {' '.join(again)}" in capsys.readouterr().err
    assert run_command(main, *again) == 0
    whole, resumed = last(folder), last(stopped)
    assert resumed["global_step"] == 12
    for part in ("state_dict", "current_model_state"):
        assert not differing(whole[part], resumed[part])
    metrics = [json.loads((place / "metrics.json").read_text()) for place in (folder, stopped)]
    assert all(metrics[0][name] == metrics[1][name] for name in ("top1", "top5", "f1", "ece", "images_seen"))
    written = (stopped / "metrics.json").stat().st_mtime_ns
    assert run_command(main, *again) == 0  # it is done
    assert (stopped / "metrics.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data=dead_leaves", "data.train_images=8", "data.selection_images=2", "data.test_images=2"],
            "has no classes",
        ),
        (["model.name=resnet999"], "model 'resnet999' with weights 'random' is not available"),
        (["model.options.foo=1"], "unexpected keyword"),
        (["model.options.num_classes=3"], "model.options.num_classes: the number of classes is that of the data"),
        (
            ["model.name=test_efficientnet", "model.stem=no_pool"],
            "model.stem=no_pool: test_efficientnet has no max-pool",
        ),
        (["loss.label_smoothing=2"], "loss.label_smoothing=2 must be a number from 0 to 1"),
        (["augmentation.shfit=0.1"], "unknown key 'augmentation.shfit'; did you mean 'shift'?"),
        (["experiment=blur_erase"], "experiment=blur_erase is one of restoration.train; here: mnist_digits, resnet18"),
        (
            ["transfer=cached_features"],
            "transfer=cached_features sees each image once, as it is: give augmentation=none",
        ),
        (["model=vit_tiny", "resizing=progressive"], "vit_tiny_patch16_224 does not take images of 16 x 16 pixels"),
        (["regularisation.drop_rate=2"], "regularisation.drop_rate=2 must be a number from 0 to 1"),
        (["regularisation.attn_drop_rate=0.1"], "unexpected keyword argument 'attn_drop_rate'"),
        (["optimizer=lion", "optimizer.options.wieght=1"], "optimizer.name=lion with these options: "),
        (["+corruption.strength=1"], "unknown key 'corruption'"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, *RUN, *arguments) == 2
    assert message in complaint(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["transfer=linear_probe", "optimizer=lion", "schedule=one_cycle"],
        ["transfer=cached_features", "augmentation=none", "schedule=multi_step"],
        ["transfer=partial", "optimizer=muon", "schedule=warm_restarts", "resizing=progressive", "regularisation=l1"],
        ["transfer=layer_decay", "model=vit_tiny", "model.options.depth=2", "regularisation=drop_path", "loss=binary"],
        ["transfer=lora", "loss=focal", "schedule=plateau"],
    ],
    ids=lambda words: words[0],
)
def test_every_transfer_from_weights_of_another_run(arguments: list[str], folder: Path, tmp_path: Path, caplog):
    if "transfer=lora" in arguments:
        pytest.importorskip("peft")
    given = Classifier("test_resnet", list("ab"))
    given.write(tmp_path / "given.safetensors")
    weights = [] if "model=vit_tiny" in arguments else ["model.weights=given.safetensors"]
    assert run_command(main, *RUN, *STEPS, *arguments, *weights, "trainer.max_steps=7") == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    loaded = Classifier.load(folder / "checkpoints" / "best.ckpt").model
    if weights:
        kept = {key for key, value in given.model.state_dict().items() if torch.equal(value, loaded.state_dict()[key])}
        every = {key for key in given.model.state_dict() if not key.startswith("fc.")}
        frozen = every if "probe" in arguments[0] or "cached" in arguments[0] else {"stem.0.weight"} & every
        assert frozen <= kept and metrics["run"]["trainable"] < metrics["run"]["parameters"]
    Classifier("vit_tiny_patch16_224" if not weights else "test_resnet", list("ab"), **(
        {"options": {"img_size": 32, "patch_size": 4, "depth": 2}} if not weights else {}
    ), weights=str(folder / "encoder.safetensors"))  # fmt: skip


@pytest.mark.parametrize("experiment", ["mnist_digits", "resnet34_tiny_imagenet", "resnet18_tiny_imagenet_32"])
def test_every_experiment_runs(experiment: str, folder: Path, tmp_path: Path):
    data = []
    if experiment != "mnist_digits":
        for number in range(24):
            path = tmp_path / "photos" / f"{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (10 * number, 0, 0)).save(path)
        data = [
            "data=class_folder",
            "data.root=photos",
            "data.image_size=32",
            "model.name=test_resnet",
            "logger.wandb=null",
        ]
    assert run_command(main, *RUN, f"experiment={experiment}", *data, "trainer.fast_dev_run=true") == 0


def test_a_diverged_run_stops_and_its_step_is_repeated(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, *RUN, *STEPS, "optimizer.lr=1e30", "schedule.warmup=0") == 2
    assert "is not finite at step" in complaint(capsys)
    said = repeat(str(folder / "failed_batch.pt"), torch.device("cpu"))
    assert "8 images: loss" in said[0] and any("not finite" in line for line in said[1:])
