"""Going on with an interrupted run: from its last checkpoint, by its own config."""

from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from restoration.errors import UserError
from restoration.run.config import leaves
from restoration.run.overrides import contenders

__all__ = ["last_checkpoint", "resumed"]

# What a run is. All else may change on the way: how long it goes on, where its files are, how it is logged and judged.
_FIXED = (
    *("seed", "data", "corruption", "source", "prediction", "backbone", "objective", "optimizer", "schedule"),
    *("callbacks.ema", "callbacks.staged_unfreezing"),
)
_FREE = ("data.root", "data.device", "data.eval_batch_size", "backbone.encoder.weights", "source.restorer.path")
# Beside the config proper, what `train` notes of a run in its checkpoints.
_NOTES = ("experiment_name", "data_name", "corruption_name", "contender_name", "job", "images_behind")


def last_checkpoint(config: DictConfig, folder: Path) -> Path | None:
    """Where to go on from, if anywhere; nothing is overwritten unasked.

    Raises:
        UserError: the folder holds a run, and none was to be resumed; or the other way round.
    """
    path = folder / "checkpoints" / "last.ckpt"
    if config.resume:
        if not path.is_file():
            raise UserError(f"resume=true, but there is no {path}; give the name=… of the run to go on with")
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}), so the run cannot go on; start anew with another name=…"
            ) from error
        return path
    if path.exists() or (folder / "metrics.json").exists():
        raise UserError(f"{folder} holds a run; choose another name=…, or go on with it by resume=true")
    return None


def resumed(config: DictConfig, checkpoint: Path, folder: Path) -> tuple[DictConfig, dict[str, Any]]:
    """The config of a run that goes on: the one its checkpoint carries, but for what the command line now asks for.

    Args:
        config: as composed now.
        checkpoint: the run's last one.
        folder: of the run, which may have moved since.

    Returns:
        The config, and what `train` noted beside it.

    Raises:
        UserError: the command line asks for another network, objective, data set or seed.
    """
    carried = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["config"]
    notes = {name: carried.pop(name, None) for name in _NOTES}
    begun = OmegaConf.create(carried)
    former = carried["folder"]
    for key, value in leaves(carried):
        if isinstance(value, str) and value.startswith(former):
            OmegaConf.update(begun, key, str(folder) + value.removeprefix(former))
    asked = [override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task]
    if contenders() and (other := "+".join(contenders())) != notes["contender_name"]:
        raise UserError(f"resume=true: this run has contender={notes['contender_name']}, not {other}; leave it out")
    now, before = (dict(leaves(part)) for part in (config, begun))
    for key in now | before:
        fixed = _below(key, asked) and _below(key, _FIXED) and not _below(key, _FREE)
        if fixed and (old := before.get(key)) != (new := now.get(key)):
            raise UserError(f"resume=true: this run has {key}={old}, not {new}; leave it out, or start a new run")
    for key in asked:
        if key not in ("experiment", "contender") and not key.startswith("hydra"):
            OmegaConf.update(begun, key, OmegaConf.select(config, key), merge=False, force_add=True)
    return begun, notes


def _below(key: str, prefixes: tuple[str, ...] | list[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
