"""What several test files need: tiny trainings through the real commands, in this process."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, open_dict
from safetensors.torch import save_file

from restoration.config import allow_any_key

CONF = Path(__file__).parents[1] / "conf"

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
FEW_PASSES = ["evaluation.nfe=[1,2]", "callbacks.best_frechet.monitor=val/frechet_nfe2"]


def encoder_file(folder: Path) -> Path:
    """ "Pretrained" weights of timm's test_resnet: random ones, with batch statistics that are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = timm.create_model("test_resnet").state_dict()
        for name, value in state.items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    path = folder / "test_resnet.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


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


def run_command(main: Callable[..., Any], *arguments: str, flags: Sequence[str] = ()) -> int:
    """Runs a Hydra command in this process as its command line would; gives the exit status."""
    root = logging.getLogger()
    handlers, level, argv = root.handlers[:], root.level, sys.argv
    sys.argv = ["command", "--config-path", str(CONF), *flags, *allow_any_key(list(arguments))]
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


class Kill(Callback):
    """Sends this process a signal at the end of a training step, or while a validation is going on after it."""

    def __init__(self, step: int, in_validation: bool = False, number: int = signal.SIGTERM) -> None:
        self.step, self.in_validation, self.number = step, in_validation, number

    def _kill(self, trainer: Trainer, here: bool) -> None:
        if here and trainer.global_step == self.step and not trainer.sanity_checking:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._kill(trainer, not self.in_validation)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._kill(trainer, self.in_validation)


def callback_file(folder: Path, target: str, **arguments: Any) -> list[str]:
    """Flags of a config folder whose callbacks=extended adds one to the default ones, as a user would."""
    (folder / "callbacks").mkdir(parents=True, exist_ok=True)
    lines = ["defaults: [default]", "added:", f"  _target_: {target}"]
    lines += [f"  {name}: {value}" for name, value in arguments.items()]
    (folder / "callbacks" / "extended.yaml").write_text("\n".join(lines) + "\n")
    return ["--config-dir", str(folder)]
