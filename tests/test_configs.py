"""Every option of every config group, and every experiment, as a user would choose it."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import wandb
from helpers import CONF, FEW_PASSES, TINY, TINY_NETWORK, composed, run_command, without_account
from hydra.utils import get_object, instantiate
from mnist_files import write_digits
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from restoration.backbone import Backbone
from restoration.corruption import Corruption
from restoration.data.datamodule import RestorationDataModule
from restoration.estimator import Estimator
from restoration.flow import ConditionalField, Source
from restoration.metrics.evaluation import Evaluation
from restoration.objective import Objective
from restoration.restorer import Restorer
from restoration.run.keys import check_keys, reference_config
from restoration.run.resolve import describe_run, resolve
from restoration.sampler import Sampler
from restoration.train import main
from restoration.training.schedule import Cosine, TorchSchedule

# Options without an estimator have no width of one.
ANY_ESTIMATOR = [argument for argument in TINY if not argument.startswith("estimator.")]
# Backbones without an encoder have no keys of one.
WITHOUT_ENCODER = {path.stem for path in CONF.glob("backbone/dit*.yaml")} | {"unet"}
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
KINDS = {
    "corruption": Corruption,
    "estimator": Estimator,
    "source": Source,
    "backbone": Backbone,
    "objective": Objective,
    "sampler": Sampler,
    "schedule": Cosine | TorchSchedule,
    "evaluation": Evaluation,
    "trainer": lightning.Trainer,
    "data": RestorationDataModule,
}


# The options of the other groups are composed where they are checked further.
COMPOSED = ("optimizer", "callbacks", "logger", "budget", "experiment")


def of(group: str) -> list[str]:
    return [option for name, option in OPTIONS if name == group]


def missing(config: DictConfig) -> set[str]:
    return OmegaConf.missing_keys(config)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own, and no W&B account."""
    monkeypatch.chdir(tmp_path)
    without_account(monkeypatch, tmp_path)
    wandb.teardown()
    yield tmp_path
    wandb.finish()
    wandb.teardown()


def regression_checkpoint(folder: Path) -> Path:
    """A regression that was not trained, as a checkpoint."""
    with composed("train", "experiment=blur_erase_regression", *TINY, "folder=run") as config:
        describe_run(config)
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    state = {f"restorer.{name}": value for name, value in Restorer.build(plain).state_dict().items()}
    torch.save({"config": plain, "state_dict": state, "images_seen": 0}, folder / "regression.ckpt")
    return folder / "regression.ckpt"


def test_there_is_a_check_for_every_group():
    assert {group for group, _ in OPTIONS} == {*KINDS, *COMPOSED, "prediction", "ablation"}


@pytest.mark.parametrize("group, option", [pair for pair in OPTIONS if pair[0] in COMPOSED], ids=lambda name: name)
def test_every_option_composes_with_known_keys(group: str, option: str):
    with composed("train", f"{group}={option}", "folder=run") as config:
        check_keys(config, reference_config())
        to_give = {"data.root": ("blur_erase_256",)}
        assert missing(config) == {key for key, options in to_give.items() if option in options}


@pytest.mark.parametrize("group, option", [pair for pair in OPTIONS if pair[0] in KINDS], ids=lambda name: name)
def test_every_option_instantiates(group: str, option: str, folder: Path):
    overrides = [f"{group}={option}", f"folder={folder}", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    overrides += [] if option in WITHOUT_ENCODER else ["backbone.encoder.weights=random"]
    if option in ("image_folder", "class_folder"):
        for number in range(8):
            (folder / "photos" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / "photos" / f"{number % 2}" / f"{number}.png")
        overrides += ["data.root=photos", "data.image_size=16"]
    elif option == "mnist":
        write_digits(folder / "data")
    elif option == "dead_leaves":
        overrides += [item for item in TINY if item.startswith("data.")]
    elif option == "smp_unet":
        pytest.importorskip("segmentation_models_pytorch", reason="an extra, [benchmark]")
    elif option == "posterior_mean":
        overrides += [f"source.restorer.path={regression_checkpoint(folder)}"]
    with composed("train", *overrides) as config:
        config.trainer.max_steps = 1
        check_keys(config, config)
        describe_run(config)
        made = instantiate(resolve(config)[group], **({"corruption": None} if group == "data" else {}))
    assert isinstance(made, KINDS[group])
    if group == "corruption":
        clean = torch.rand(2, 3, 16, 16)
        degraded, mask, severity = made(clean, torch.arange(2))
        assert degraded.shape == clean.shape and mask.dtype == torch.bool and not torch.equal(degraded, clean)
    if group == "data" and option != "tiny_imagenet":  # that one is 100,000 files; see data/test_tiny_imagenet.py
        made.prepare_data()
        made.setup()
        assert set(made.splits) == {"train", "selection", "test"}
        side = 32 if option == "mnist" else 16
        assert all(store.images.shape[1:] == (side, side, 3) for store in made.splits.values())
        assert (made.classes is not None) == (option in ("mnist", "class_folder"))


@pytest.mark.parametrize("option", of("prediction"))
def test_every_prediction_makes_a_field(option: str):
    """It is a class with everything but the network filled in."""
    with composed("train", f"prediction={option}", "folder=run") as config:
        make = instantiate(config.prediction)
    assert callable(make) and issubclass(get_object(config.prediction._target_), ConditionalField)


def test_the_optimiser_takes_groups(folder: Path):
    for option in of("optimizer"):
        with composed("train", f"optimizer={option}", f"folder={folder}") as config:
            make = instantiate(config.optimizer)
        made = make([{"params": [torch.nn.Parameter(torch.zeros(1))], "name": "new"}])
        assert isinstance(made, torch.optim.Optimizer) and made.param_groups[0]["name"] == "new"


def test_every_callback_instantiates(folder: Path):
    for option in of("callbacks"):
        with composed("train", f"callbacks={option}", f"folder={folder}") as config:
            made = [instantiate(node) for node in config.callbacks.values()]
        assert all(isinstance(callback, lightning.Callback) for callback in made)


@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_every_logger_instantiates(mode: str, folder: Path):
    for option in of("logger"):
        with composed("train", f"logger={option}", f"folder={folder}") as config:
            for name, node in config.logger.items():
                extra = {"mode": mode} if name == "wandb" else {}
                logger = instantiate(node, save_dir=folder, **extra)
                logger.log_metrics({"a": 1.0}, step=0)
                wandb.finish()
    assert any(folder.glob("wandb/offline-run-*")) == (mode == "offline")


@pytest.mark.parametrize("experiment", of("experiment"))
def test_every_experiment_trains(experiment: str, folder: Path):
    """Two steps, a validation and the final evaluation by the real command on tiny dead leaves."""
    with composed("train", f"experiment={experiment}", "folder=run") as config:
        passes, backbone = list(config.evaluation.nfe), set(config.backbone)
    network = [argument for argument in ANY_ESTIMATOR if "encoder" in backbone or not argument.startswith("backbone.")]
    network += ["backbone.widths=[16,16,16]"] if {"encoder", "widths"} & backbone == {"widths"} else []
    arguments = [f"experiment={experiment}", *network, "trainer.max_steps=2"]
    arguments += FEW_PASSES if len(passes) > 1 else []
    assert run_command(main, *arguments) == 0
    run = folder / "outputs" / experiment / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["run"]["experiment"] == experiment and metrics["run"]["steps"] == 2
    assert [point["nfe"] for point in metrics["by_nfe"]] == ([1, 2] if len(passes) > 1 else passes)


def test_a_restorer_goes_on_from_its_estimator(folder: Path):
    """The two commands of experiment=photo: the estimator alone, then the rest from there."""
    network = ["experiment=photo", *(argument for argument in TINY if not argument.startswith("backbone."))]
    network += ["backbone.widths=[16,16,16]", "evaluation.nfe=[1]", "trainer.max_steps=2"]
    assert run_command(main, *network, "objective.terms.flow=null", "name=estimator") == 0
    began = torch.load(folder / "outputs/photo/estimator/checkpoints/best.ckpt", weights_only=True)
    assert not began["state_dict"]["restorer.backbone.head.weight"].any()  # as initialised
    assert run_command(main, *network, "init=outputs/photo/estimator", "name=all", "estimator.frozen=true") == 0
    ended = torch.load(folder / "outputs/photo/all/checkpoints/best.ckpt", weights_only=True)
    changed = {name for name, value in ended["state_dict"].items() if not value.equal(began["state_dict"][name])}
    assert changed and not [name for name in changed if "estimator" in name]


CHOSEN = ["backbone=small", "corruption=erase", "budget=tiny", "folder=run"]


@functools.cache
def chosen() -> Any:
    with composed("train", *CHOSEN) as config:
        return OmegaConf.to_container(config)


@pytest.mark.parametrize("ablation", of("ablation"))
def test_an_ablation_changes_the_experiment_whatever_else_is_chosen(ablation: str):
    default = chosen()
    with composed("train", *CHOSEN, f"ablation={ablation}") as config:
        check_keys(config, reference_config())
        changed = OmegaConf.to_container(config)
    differs = {group for group in default if default[group] != changed[group]}
    # The default is one of them.
    assert len(differs) == {"noise": 0}.get(ablation, 1), differs


@pytest.mark.slow
def test_every_ablation_is_one_change_to_the_experiment(folder: Path):
    """By the real command as one sweep: all but the one that needs another run's checkpoint, two steps each."""
    ablations = [option for option in of("ablation") if option != "posterior_mean"]
    arguments = ["experiment=blur_erase", "ablation=glob(*,exclude=posterior_mean)", *ANY_ESTIMATOR, *FEW_PASSES]
    assert run_command(main, *arguments, "trainer.max_steps=2", flags=["-m"]) == 0
    reports = [json.loads(path.read_text()) for path in folder.rglob("metrics.json")]
    assert {report["run"]["name"] for report in reports} == {f"run/ablation={ablation}" for ablation in ablations}
    # They differ, but for the one that is the default.
    assert len({report["restored"]["psnr"] for report in reports}) > len(ablations) / 2


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={option}"
        for group in ("corruption", "source", "prediction", "sampler", "schedule", "backbone")
        for option in of(group)
        if option != "smp_unet"  # no flow
    ],
)
@pytest.mark.slow
def test_every_choice_trains(choice: str, folder: Path):
    """Two steps by the real command; `choice` may bring its own widths, so that the network's come after it."""
    arguments = ["experiment=blur_erase", choice, *TINY, *TINY_NETWORK, *FEW_PASSES, "trainer.max_steps=2"]
    if choice.removeprefix("backbone=") in WITHOUT_ENCODER:
        arguments = [argument for argument in arguments if not argument.startswith("backbone.")]
        arguments += ["backbone.widths=[16,16,16]"] if choice == "backbone=unet" else []
    if choice in ("sampler=mean_flow", "sampler=consistency"):
        arguments += ["objective=mean_flow", "backbone.two_times=true"]
    if choice == "source=posterior_mean":
        arguments += [f"source.restorer.path={regression_checkpoint(folder)}"]
    assert run_command(main, *arguments) == 0
