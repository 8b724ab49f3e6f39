"""One resolved config per run: everything that follows from other choices is filled in, once."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf, open_dict

from restoration.checkpoint_file import read_checkpoint
from restoration.errors import UserError, whole_number
from restoration.run.hardware import resolve_precision
from restoration.run.keys import TEACHER, check_values
from restoration.run.overrides import Overrides

log = logging.getLogger(__name__)

# Stage 1 has no gradients in the encoder. Plain DDP would refuse that.
DDP = "ddp_find_unused_parameters_true"


def describe_run(config: DictConfig) -> None:
    """Fills in `config.run`: the names under which a new run appears in tables, logs and dashboards."""
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    ablation = "+".join(Overrides().ablations) or None
    label = run_label(config, ablation)
    names = {group: choices.get(group) for group in ("experiment", "data", "corruption")}
    group = str(config.name) if hydra.mode == RunMode.MULTIRUN else None
    with open_dict(config):
        config.run = {**names, "ablation": ablation, "label": label, "group": group, "derived": [], "images_before": 0}


def run_label(config: DictConfig, ablation: str | None) -> str:
    """The run's name in tables and dashboards: that of its folder, with the ablation."""
    hydra = HydraConfig.get()
    job = Path(hydra.runtime.output_dir).name if hydra.mode == RunMode.MULTIRUN else None
    shown = None if job and "ablation=" in job else ablation
    return "/".join(str(part) for part in (config.name, job, shown) if part is not None)


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config with precision, steps and validations filled in, as plain containers.

    This is what the run uses, and what config.yaml, the loggers and the checkpoints hold. `config.run.derived` lists
    the keys that were filled in, so that a resumed run derives its length again.

    Raises:
        UserError: a value is missing or out of range.
    """
    check_values(config)
    with open_dict(config):
        _check(config)
        if isinstance(OmegaConf.select(config, "evaluation.nfe"), int):
            config.evaluation.nfe = [config.evaluation.nfe]  # files take its first
        _fill(config, "trainer.precision", _precision)
        if not config.run.images_before:
            config.run.images_before = _images_before(config)
        if (world := devices(config.trainer)) > 1:
            _fill(config, "trainer.strategy", lambda _: DDP)
        _fill(config, "trainer.max_steps", lambda config: _max_steps(config, world))
        _fill(config, "trainer.val_check_interval", _val_check_interval)
    OmegaConf.set_readonly(config, True)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _check(config: DictConfig) -> None:
    for name in ("logger", "callbacks"):
        if name in config.trainer:
            raise UserError(
                f"trainer.{name} would be ignored; loggers and callbacks are set in the groups logger and callbacks, "
                "such as logger.wandb=null or callbacks.early_stopping=null"
            )
    whole_number("trainer.accumulate_grad_batches", _accumulated(config), 1)
    # Lightning refuses a bar without permission, and shows its own in place of none.
    bar = config.callbacks.get("progress_bar")
    if bar is None:
        config.trainer.enable_progress_bar = False
    elif config.trainer.get("enable_progress_bar") is False:
        config.callbacks.progress_bar = None
    if config.trainer.precision != "auto":
        resolve_precision(config.trainer.precision, config.trainer.get("accelerator", "auto"))
    for key in OmegaConf.missing_keys(config):
        example = "…/checkpoints/best.ckpt of a regression" if key == "source.restorer.path" else "…"
        raise UserError(f"{key} is missing; give {key}={example}")


def _fill(config: DictConfig, key: str, derive: Any) -> None:
    """Sets a key that is null or "auto"."""
    if OmegaConf.select(config, key) in (None, "auto"):
        OmegaConf.update(config, key, derive(config))
        config.run.derived = [*config.run.derived, key]


def _precision(config: DictConfig) -> str | int:
    return resolve_precision("auto", config.trainer.get("accelerator", "auto"))


def _max_steps(config: DictConfig, world: int) -> int:
    if config.trainer.get("max_epochs") is not None:
        return -1
    return math.ceil(config.budget.images / (config.data.batch_size * _accumulated(config) * world))


def _val_check_interval(config: DictConfig) -> int | float:
    steps = config.trainer.max_steps
    if steps <= 0:
        _fill(config, "trainer.check_val_every_n_epoch", lambda _: 1)
        return 1.0
    # A short run is validated once, at its end: before step 100 there is little to see.
    return min(steps, max(100, steps // config.validations)) * _accumulated(config)  # Lightning counts batches


def _accumulated(config: DictConfig) -> int:
    return config.trainer.get("accumulate_grad_batches", 1)


def devices(trainer: Mapping[Any, Any]) -> int:
    """On how many devices Lightning would train.

    Raises:
        UserError: there are no such devices, or Slurm has started another number of processes; Lightning would start
            processes itself in a sweep, and each would run the whole sweep.
    """
    names = ("accelerator", "devices", "num_nodes", "strategy")
    chosen = {name: trainer[name] for name in names if name in trainer}
    try:
        made = Trainer(**chosen, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        environment = made._accelerator_connector.cluster_environment
        environment.validate_settings(made.num_devices, made.num_nodes)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:  # TypeError: devices=-1 on a CPU
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error
    alone = made.world_size == 1 or environment.creates_processes_externally
    if not alone and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(
            f"a sweep (-m) cannot start {made.world_size} processes per job; use trainer.devices=1, or "
            "hydra/launcher=slurm with hydra.launcher.tasks_per_node"
        )
    return made.world_size


def _images_before(config: DictConfig) -> int:
    """Images that the weights of `init`, a teacher and the regression inside the source have seen: part of the cost."""
    files = {path: config.trust for key in ("init", TEACHER) if (path := OmegaConf.select(config, key))}
    regression: Any = OmegaConf.select(config, "source.restorer") or {}
    if "path" in regression:
        files[regression.path] = regression.get("trust")
    checkpoints = [read_checkpoint(path, trust) for path, trust in files.items()]
    return sum((state["images_seen"] or 0) + state["config"]["run"].get("images_before", 0) for state in checkpoints)
