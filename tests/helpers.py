"""What several test files need: tiny trainings through the real commands, in this process."""

import csv
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, open_dict
from tiny import Plain, Velocity, encoder_file, tiny_data, tiny_module  # noqa: F401 (for the tests)

from restoration.run.command import CONF
from restoration.run.keys import allow_any_key
from restoration.training.module import RestorationModule

# A job of seconds: 24 pictures of 16 pixels, six steps an epoch, an encoder of 373k parameters.
TINY_DATA = [
    "data=dead_leaves",
    "data.image_size=16",
    "data.train_images=24",
    "data.selection_images=8",
    "data.test_images=4",
    "data.batch_size=4",
    "data.eval_batch_size=4",
]
TINY_NETWORK = [
    "backbone.encoder.model=test_resnet",
    "backbone.encoder.weights=random",
    "backbone.encoder.stem=no_pool",
    "backbone.widths=[16,16,16,16]",
    "backbone.depth=1",
    "estimator.width=16",
]
TINY_RUN = [
    "evaluation.images=4",
    "evaluation.spread_samples=0",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "callbacks.progress_bar=null",
    "trainer.enable_progress_bar=false",
    "logger.wandb=null",
    "name=run",
]
TINY = TINY_DATA + TINY_NETWORK + TINY_RUN
# Two figures per validation instead of nine passes.
FEW_PASSES = ["evaluation.nfe=[1,2]"]


@contextmanager
def composed(name: str, *overrides: str, config_dir: Path = CONF) -> Iterator[DictConfig]:
    """The config that a command line gives, while Hydra is set up as in a running job."""
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        config = compose(name, overrides=allow_any_key(list(overrides)), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        try:
            with open_dict(config):
                del config["hydra"]
            yield config
        finally:
            HydraConfig.instance().cfg = None


def run_command(main: Callable[..., Any], *arguments: str, flags: Iterable[str] = ()) -> int:
    """Runs a Hydra command in this process as its command line would; gives the exit status."""
    root = logging.getLogger()
    handlers, level, argv = root.handlers[:], root.level, sys.argv
    sys.argv = ["command", *flags, *arguments]
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = argv
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:], root.level = handlers, level
        signal.signal(signal.SIGTERM, terminate)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return 0


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that begins with `error: `, without that; anything like a traceback fails."""
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert "Traceback" not in said.out + said.err
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], said.err
    return errors[0].removeprefix("error: ")


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def without_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No W&B key of this machine is seen, and none could be used: its server is a closed port of this machine."""
    for variable in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "wandb_config"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")


def fit(
    module: RestorationModule, folder: Path, callbacks: list[Callback], ckpt_path: Path | None = None, **options: Any
) -> Trainer:
    """A short training on the CPU; by default of eight steps with a validation at every fourth."""
    options = {"max_steps": 8, "val_check_interval": 4, "check_val_every_n_epoch": None, "logger": False, **options}
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        use_distributed_sampler=False,
        num_sanity_val_steps=options.pop("num_sanity_val_steps", 0),
        **options,
    )
    trainer.fit(module, datamodule=tiny_data(), ckpt_path=ckpt_path)
    return trainer


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def differing(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> set[str]:
    """Names whose values are not equal bit for bit."""
    assert left.keys() == right.keys()
    return {name for name, value in left.items() if not torch.equal(value, right[name])}


def rows(folder: Path) -> list[dict[str, str]]:
    """The run's metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Kill(Callback):
    """Sends this process a signal at the end of a training step, or while a validation is going on after it."""

    def __init__(self, step: int, in_validation: bool = False, number: int = signal.SIGTERM) -> None:
        self.step, self.in_validation, self.number = step, in_validation, number

    def _kill(self, trainer: Trainer, here: bool) -> None:
        # The run's config carries this callback on; it kills but once.
        if here and trainer.global_step == self.step and not trainer.sanity_checking and not trainer.ckpt_path:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._kill(trainer, not self.in_validation)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._kill(trainer, self.in_validation)


def callback_file(folder: Path, target: str, base: str = "default", **arguments: Any) -> list[str]:
    """Flags of a config folder whose callbacks=extended adds one to the default ones, as a user would."""
    (folder / "callbacks").mkdir(parents=True, exist_ok=True)
    lines = [f"defaults: [{base}]", "added:", f"  _target_: {target}"]
    lines += [f"  {name}: {value}" for name, value in arguments.items()]
    (folder / "callbacks" / "extended.yaml").write_text("\n".join(lines) + "\n")
    return ["--config-dir", str(folder)]


class Diary(Callback):
    """Writes the epoch and the image indices of every training step into a file, and keeps each last.ckpt."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        with self.path.open("a") as file:
            print(trainer.global_step, trainer.current_epoch, *batch.index.tolist(), file=file)
        newest = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if newest.is_file():
            # Written by the validation before this step: what a power cut would leave.
            shutil.copy(newest, self.path.with_name(f"last_{trainer.global_step}.ckpt"))


class Spoil(Callback):
    """Makes a weight NaN before a training step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            next(pl_module.restorer.backbone.head.parameters()).data.fill_(float("nan"))


class SpoilAfter(Spoil):
    """Makes a weight NaN after a training step, before its validation."""

    def on_train_batch_start(self, *_: Any) -> None:
        pass

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not trainer.ckpt_path:  # the resumed run has the callback too
            super().on_train_batch_start(trainer, pl_module, None, 0)
