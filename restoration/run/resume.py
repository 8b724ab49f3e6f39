"""Resuming an interrupted run from its last checkpoint, with its own config."""

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from restoration.arguments import leaves
from restoration.checkpoint_file import DamagedFileError, check, read_checkpoint
from restoration.errors import UserError
from restoration.run.checkpoint import check_places
from restoration.run.hardware import first_process
from restoration.run.keys import TEACHER
from restoration.run.overrides import Overrides, below
from restoration.run.resolve import run_label

log = logging.getLogger(__name__)

# What defines a run. All else may change on resume: its length, where its files are, how it is logged and evaluated.
_FIXED = (
    *("seed", "init", "data", "corruption", "source", "prediction", "estimator", "backbone", "objective", "optimizer"),
    *(
        "model",
        "loss",
        "augmentation",
        "transfer",
        "resizing",
        "regularisation",
        "schedule",
        "callbacks.ema",
        "callbacks.plateau",
    ),
    *("callbacks.staged_unfreezing", "trainer.accumulate_grad_batches"),
)
_FREE = (
    *("data.root", "data.device", "data.eval_batch_size", "data.extra"),
    *("backbone.encoder.weights", "model.weights", "source.restorer.path"),
    *("augmentation.restored.restorer", "augmentation.restored.hard", TEACHER),
)
# Derived from the length of the run, which may change.
_ENDS = ("max_steps", "max_epochs", "max_time")
_LENGTH = ("trainer.max_steps", "trainer.val_check_interval", "trainer.check_val_every_n_epoch")


def last_checkpoint(config: DictConfig, folder: Path) -> Path | None:
    """The checkpoint to resume from; None for a new run. Nothing is overwritten unasked.

    Raises:
        UserError: resume is none of true, false and auto; the folder holds a run and resume=false, or there is none and
            resume=true; every checkpoint is damaged.
    """
    checkpoints = folder / "checkpoints"
    begun = [path for path in (checkpoints / "last.ckpt", checkpoints / "previous.ckpt") if path.exists()]
    if not config.resume:
        taken = begun or any((folder / name).exists() for name in ("config.yaml", "metrics.json"))
        if taken and first_process():  # a further process of this run finds the first one's files
            raise UserError(f"{folder} holds a run; choose another name=…, or continue it with resume=auto")
        return None
    if begun:
        return _intact(begun)
    if config.resume == "auto" and not (folder / "metrics.json").exists():
        return None
    raise UserError(
        f"resume={str(config.resume).lower()}, but there is no {checkpoints / 'last.ckpt'}; give the name=… of a run"
    )


def _intact(paths: list[Path]) -> Path:
    """The first file without damage. A damaged one is set aside: it must not become the previous file."""
    for number, path in enumerate(paths):
        try:
            check(path)
        except DamagedFileError as error:
            if number + 1 == len(paths):
                continue
            with contextlib.suppress(FileNotFoundError):  # another rank was faster
                path.rename(path.with_name("damaged.ckpt"))
            log.warning("%s (now damaged.ckpt); the run continues from the one before, %s", error, paths[number + 1])
        else:
            return path
    raise UserError(f"{' and '.join(map(str, paths))}: damaged; start again with another name=…")


def done(config: DictConfig, folder: Path) -> bool:
    """Whether resume=auto would repeat a command line that has run to its end. Reads no checkpoint."""
    run = _evaluated(folder)
    return config.resume == "auto" and run is not None and run.get("overrides") == Overrides().of_run


def finished(resolved: dict[str, Any], checkpoint: Path, folder: Path) -> bool:
    """Whether nothing is left to do: the run was evaluated at its last step, and is not lengthened now."""
    run = _evaluated(folder)
    if resolved["resume"] != "auto" or run is None:
        return False
    state = read_checkpoint(checkpoint, resolved["trust"], network(resolved))
    ends = [[part["trainer"].get(key) for key in _ENDS] for part in (state["config"], resolved)]
    more = Overrides().given("callbacks.early_stopping") and run["steps"] < resolved["trainer"]["max_steps"]
    return bool(run["steps"] == state["global_step"] and ends[0] == ends[1] and not more)


def network(config: Mapping[Any, Any]) -> str:
    """The group that makes the network of a run, as `read_checkpoint` takes it."""
    return "model" if "model" in config else "backbone"


def _evaluated(folder: Path) -> dict[str, Any] | None:
    """What metrics.json says of the run; None if it is missing or damaged."""
    try:
        run: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["run"]
        run["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run


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
    # The trust is the command line's: a checkpoint cannot trust itself.
    state = read_checkpoint(checkpoint, config.trust, network(config))
    carried: dict[str, Any] = state["config"]
    begun = OmegaConf.create(carried)
    former = carried["folder"]
    for key, value in leaves(carried):
        if isinstance(value, str) and value.startswith(former):
            OmegaConf.update(begun, key, str(folder) + value.removeprefix(former))
    begun.folder = str(folder)
    check_places(OmegaConf.to_container(begun), folder)  # type: ignore[arg-type]
    overrides = Overrides()
    if overrides.ablations and (other := "+".join(overrides.ablations)) != begun.run.ablation:
        raise UserError(f"resume: this run has ablation={begun.run.ablation}, not {other}; leave it out")
    now, before = (dict(leaves(part)) for part in (config, begun))
    for key in now | before:
        fixed = below(key, overrides.keys) and below(key, _FIXED) and not below(key, _FREE)
        if fixed and (old := before.get(key)) != (new := now.get(key)):
            raise UserError(f"resume: this run has {key}={old}, not {new}; leave it out, or start a new run")
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
    stopped = [
        value
        for name, value in state["callbacks"].items()
        if name.startswith("EarlyStopping") and value["wait_count"] >= value["patience"]
    ]
    if stopped and begun.callbacks.early_stopping is not None:
        log.info(
            "this run had stopped early, after %s validations without improvement; it trains until its next "
            "validation. callbacks.early_stopping=null continues to the end",
            stopped[0]["wait_count"],
        )
    return begun
