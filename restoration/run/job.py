"""A training job, of whatever network: resolve, build, fit, evaluate, and end well in any case."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf, open_dict

from restoration.checkpoint_file import weights_of
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.report.folder import Report
from restoration.run.command import output_folder
from restoration.run.fit import continuation, fit
from restoration.run.hardware import first_process
from restoration.run.isolation import free_memory
from restoration.run.lock import locked
from restoration.run.messages import configure_logging
from restoration.run.overrides import Overrides
from restoration.run.provenance import record
from restoration.run.resolve import describe_run, devices, resolve
from restoration.run.resume import done, finished, last_checkpoint, resumed
from restoration.run.stopping import in_slurm_job
from restoration.training.module import TrainingModule

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=TrainingModule)


@dataclass
class Run(Generic[Module]):
    """Everything that a training needs, built from its resolved config."""

    config: dict[str, Any]
    folder: Path
    data: RestorationDataModule
    module: Module
    trainer: Trainer

    def best(self) -> Path:
        """The checkpoint that is evaluated; written now if the run keeps none."""
        checkpoint = weights_of(self.folder)
        if not checkpoint.is_file():  # callbacks.last=null, and no validation figure
            self.trainer.save_checkpoint(checkpoint, weights_only=True)
        return checkpoint

    def facts(self) -> dict[str, Any]:
        """What its report says of the training."""
        return {
            "images_seen": self.config["run"]["images_before"] + self.module.images_seen,
            "steps": self.trainer.global_step,
            "training_seconds": self.module.training_seconds,
            "overrides": Overrides().of_run,
        }


def run_job(
    config: DictConfig, build: Callable[[dict[str, Any], Path, bool], Run], evaluate: Callable[[Any], Report]
) -> Report | None:
    """One run, from its config to its folder: resolve, build, fit, evaluate.

    Args:
        config: as composed.
        build: makes the run from its resolved config, its folder, and whether it begins (else it resumes).
        evaluate: writes the results of the run to its folder.

    Returns:
        The report, also of a run that is done; None in all but the first of several processes, and after Lightning's
        fast run.

    Raises:
        UserError: something in the config, the data or the folder must be corrected, or the loss was not finite.
    """
    folder = output_folder(Path(config.folder))
    if done(config, folder):
        return done_before(folder)
    checkpoint = last_checkpoint(config, folder)
    if checkpoint is None:
        describe_run(config)
    else:
        config = resumed(config, checkpoint, folder)
    resolved = resolve(config)
    if checkpoint is not None and finished(resolved, checkpoint, folder):
        return done_before(folder)

    free_memory()
    run = build(resolved, folder, checkpoint is None)
    if first_process() and not resolved["trainer"].get("fast_dev_run"):
        record(folder, resolved, run.data.splits, run.trainer.strategy.root_device, run.trainer.world_size)
        OmegaConf.save(OmegaConf.create(resolved), folder / "config.yaml")  # the folder holds a run from here on
    if checkpoint is not None:
        log.info("resuming from %s", checkpoint)
    fit(run.trainer, run.module, run.data, checkpoint)
    if resolved["trainer"].get("fast_dev_run"):
        log.info("the fast run succeeded; it leaves no checkpoint, so there is no evaluation")
        return None
    return evaluate(run) if run.trainer.is_global_zero else None


def done_before(folder: Path) -> Report:
    report = Report.load(folder)
    log.info("this run is done (%s steps); a larger budget.images with resume=auto continues it", report.run["steps"])
    return report


def guarded(config: DictConfig, train: Callable[[DictConfig], Report | None]) -> Report | None:
    """A job of a command: its folder locked, its loggers closed, and a line that continues it if it is stopped.

    Returns:
        What `train` returns, in the first of several processes.
    """
    configure_logging()
    failed = 1
    try:
        with open_dict(config), locked(Path(config.folder)):
            report = train(config)
        failed = 0
    except (SIGTERMException, KeyboardInterrupt):
        if not (first_process() or in_slurm_job()):
            return None  # the first one tells; Lightning would kill it for another's exit status
        if alone():
            command = HydraConfig.get().job.name
            log.warning("stopped; continue with: python -m restoration.%s %s", command, continuation(config))
        raise
    finally:
        wandb.finish(failed)
    return report if first_process() else None


def alone() -> bool:
    """Whether the job is no part of a sweep, which has its own end."""
    return HydraConfig.get().mode != RunMode.MULTIRUN


def make_trainer(config: dict[str, Any], data: RestorationDataModule, callbacks: list[Callback]) -> Trainer:
    """The trainer of a resolved config, with its loggers."""
    # Without a checkpoint callback Lightning would add its own.
    own = {"enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks)}
    arguments = own | config["trainer"] | whole_steps(config, data)
    return instantiate(arguments, callbacks=callbacks, logger=_loggers(config))  # type: ignore[no-any-return]


def make_callbacks(config: dict[str, Any]) -> list[Callback]:
    """The callbacks of a resolved config, in its order."""
    return [instantiate(node) for node in config["callbacks"].values() if node is not None]


def _loggers(config: dict[str, Any]) -> list[Logger]:
    loggers = [instantiate(node) for node in config["logger"].values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(config)
    return loggers


def whole_steps(config: dict[str, Any], data: RestorationDataModule) -> dict[str, int]:
    """Trainer arguments that end an epoch with a whole optimiser step, if a step accumulates several batches.

    Lightning would take a step from the batches that are left over, and the run would see fewer images than its budget.

    Raises:
        UserError: a step takes more batches than an epoch has.
    """
    accumulated = config["trainer"].get("accumulate_grad_batches", 1)
    if accumulated == 1 or config["trainer"].get("limit_train_batches") is not None:
        return {}
    batches = len(data.splits["train"]) // (config["data"]["batch_size"] * devices(config["trainer"]))
    if batches < accumulated:
        raise UserError(
            f"trainer.accumulate_grad_batches={accumulated} is more than the {batches} batches of an epoch; make it or "
            "data.batch_size smaller"
        )
    return {"limit_train_batches": batches - batches % accumulated}
