"""Resuming an interrupted run from its last checkpoint, with its own config."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from restoration.errors import UserError
from restoration.restorer import read_checkpoint
from restoration.run.overrides import Overrides, below, leaves
from restoration.run.resolve import run_label

# What defines a run. All else may change on resume: its length, where its files are, how it is logged and evaluated.
_FIXED = (
    *("seed", "data", "corruption", "source", "prediction", "estimator", "backbone", "objective", "optimizer"),
    *("schedule", "callbacks.ema", "callbacks.staged_unfreezing"),
)
_FREE = ("data.root", "data.device", "data.eval_batch_size", "backbone.encoder.weights", "source.restorer.path")
# Derived from the length of the run, which may change.
_LENGTH = ("trainer.max_steps", "trainer.val_check_interval", "trainer.check_val_every_n_epoch")


def last_checkpoint(config: DictConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from, if the run is resumed. Nothing is overwritten unasked.

    Raises:
        UserError: the folder holds a run and resume=false, or the other way round.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if config.resume:
        if not path.is_file():
            raise UserError(f"resume=true, but there is no {path}; give the name=… of the run to resume")
        return path
    if path.exists() or (folder / "metrics.json").exists():
        raise UserError(f"{folder} holds a run; choose another name=…, or continue it with resume=true")
    return None


def resumed(config: DictConfig, checkpoint: Path, folder: Path) -> DictConfig:
    """The config of a resumed run: that of its checkpoint, with what the command line now sets.

    Args:
        config: as composed now.
        checkpoint: the run's last one.
        folder: of the run, which may have moved since.

    Raises:
        UserError: the checkpoint is damaged or of an older version; the command line sets another network, objective,
            data set or seed.
    """
    carried: dict[str, Any] = read_checkpoint(checkpoint)["config"]
    begun = OmegaConf.create(carried)
    former = carried["folder"]
    for key, value in leaves(carried):
        if isinstance(value, str) and value.startswith(former):
            OmegaConf.update(begun, key, str(folder) + value.removeprefix(former))
    overrides = Overrides()
    if overrides.ablations and (other := "+".join(overrides.ablations)) != begun.run.ablation:
        raise UserError(f"resume=true: this run has ablation={begun.run.ablation}, not {other}; leave it out")
    now, before = (dict(leaves(part)) for part in (config, begun))
    for key in now | before:
        fixed = below(key, overrides.keys) and below(key, _FIXED) and not below(key, _FREE)
        if fixed and (old := before.get(key)) != (new := now.get(key)):
            raise UserError(f"resume=true: this run has {key}={old}, not {new}; leave it out, or start a new run")
    for key in _LENGTH:
        # A budget given now replaces a number of steps given before.
        if key in begun.run.derived or (key == "trainer.max_steps" and overrides.given("budget")):
            OmegaConf.update(begun, key, None)
    begun.run.derived = [key for key in begun.run.derived if key not in _LENGTH]
    for key in overrides.keys:
        if key not in ("experiment", "ablation") and not key.startswith("hydra"):
            OmegaConf.update(begun, key, OmegaConf.select(config, key), merge=False, force_add=True)
    if overrides.given("name"):
        begun.run.label = run_label(begun, begun.run.ablation)
    return begun
