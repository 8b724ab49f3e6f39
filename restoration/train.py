"""Train a restorer, then evaluate it.

python -m restoration.train experiment=blur_erase
python -m restoration.train -m experiment=blur_erase corruption.strength=0.25,0.5,0.75,1.0
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf, open_dict

from restoration.callbacks import ImageQuality
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.metrics.evaluation import Evaluation
from restoration.metrics.frechet import FrechetDistance, encoder_distance
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_results
from restoration.restorer import Restorer
from restoration.run.checkpoint import best_checkpoint, initialize, self_contained
from restoration.run.command import hydra_command, output_folder
from restoration.run.fit import continuation, fit
from restoration.run.hardware import autocast_dtype, first_process
from restoration.run.isolation import free_memory
from restoration.run.keys import check_ablations
from restoration.run.lock import locked
from restoration.run.messages import configure_logging
from restoration.run.overrides import Overrides
from restoration.run.provenance import record
from restoration.run.resolve import describe_run, devices, resolve
from restoration.run.resume import done, finished, last_checkpoint, resumed
from restoration.run.stopping import in_slurm_job
from restoration.training.module import RestorationModule
from restoration.trust import named

log = logging.getLogger(__name__)


@dataclass
class Run:
    """Everything that a training needs, built from its resolved config."""

    config: dict[str, Any]
    folder: Path
    data: RestorationDataModule
    module: RestorationModule
    trainer: Trainer
    evaluation: Evaluation


def train(config: DictConfig) -> Report | None:
    """One run, from its config to its folder: resolve, build, fit, evaluate.

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
    run = build(resolved, folder)
    if first_process() and not resolved["trainer"].get("fast_dev_run"):
        record(folder, resolved, run.data.splits, run.trainer.strategy.root_device, run.trainer.world_size)
        OmegaConf.save(OmegaConf.create(resolved), folder / "config.yaml")  # the folder holds a run from here on
    if checkpoint is None and resolved["init"]:
        initialize(run.module.restorer, resolved["init"], resolved["trust"])
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


def build(config: dict[str, Any], folder: Path) -> Run:
    """The objects of a run. Whatever may be wrong with the config or the data shows here, before training starts."""
    seed_everything(config["seed"], workers=True, verbose=False)
    data: RestorationDataModule = instantiate(config["data"], corruption=instantiate(config["corruption"]))
    restorer = Restorer.build(config)
    restorer.check_size(config["data"]["image_size"])
    objective = instantiate(config["objective"])
    counts = [*config["evaluation"]["nfe"], restorer.sampler.nfe]
    objective.check_nfe(max(counts))
    for nfe in counts:
        restorer.sampler.check_nfe(nfe)
    data.prepare_data()
    module = RestorationModule(
        restorer,
        objective,
        instantiate(config["optimizer"]),
        instantiate(config["schedule"]),
        config=self_contained(config),
        seed=config["seed"],
        compile=config["compile"],
    )
    frechet = encoder_distance(config["backbone"].get("encoder"))
    dtype = autocast_dtype(config["trainer"]["precision"])
    evaluation = instantiate(config["evaluation"], frechet=frechet, dtype=dtype)
    callbacks = _callbacks(config, frechet)
    # Without a checkpoint callback Lightning would add its own.
    own = {"enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks)}
    trainer = instantiate(
        own | config["trainer"] | whole_steps(config, data), callbacks=callbacks, logger=_loggers(config)
    )
    size = sum(parameter.numel() for parameter in module.parameters())
    log.info("%s: %s parameters", type(restorer.backbone).__name__, f"{size:,}")
    log.info("%s steps, validation every %s", trainer.max_steps, trainer.val_check_interval)
    return Run(config, folder, data, module, trainer, evaluation)


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


def _callbacks(config: dict[str, Any], frechet: FrechetDistance | None) -> list[Callback]:
    callbacks = [instantiate(node) for node in config["callbacks"].values() if node is not None]
    for callback in callbacks:
        if isinstance(callback, ImageQuality):
            callback.frechet = frechet
    return callbacks


def _loggers(config: dict[str, Any]) -> list[Logger]:
    loggers = [instantiate(node) for node in config["logger"].values() if node is not None]
    for logger in loggers:
        logger.log_hyperparams(config)
    return loggers


def evaluate(run: Run) -> Report:
    """The evaluation that a run ends with, of its best weights; written to its folder and its loggers."""
    config, module, steps = run.config, run.module, run.trainer.global_step
    checkpoint = best_checkpoint(run.folder)
    if not checkpoint.is_file():  # callbacks.last=null, and no validation figure
        run.trainer.save_checkpoint(checkpoint, weights_only=True)
    restorer = Restorer.load(checkpoint, module.device, named(module.config))
    result = run.evaluation(restorer, run.data.batches("test", module.device))
    facts = {
        "images_seen": config["run"]["images_before"] + module.images_seen,
        "steps": steps,
        "training_seconds": module.training_seconds,
        "overrides": Overrides().of_run,
    }
    report = write_results(result, describe(config, restorer) | facts, run.folder)
    for logger in run.trainer.loggers:
        logger.log_metrics(_summary(result.report), step=steps)
        if isinstance(logger, WandbLogger):
            logger.log_image("test/grid", [str(run.folder / "images" / "grid.png")], step=steps)
        logger.save()
    return report


def _summary(report: dict[str, Any]) -> dict[str, float]:
    """The evaluation as flat metrics, columns of a dashboard."""
    figures = {
        f"test/{name}_nfe{point['nfe']}": value
        for point in report["by_nfe"]
        for name, value in point.items()
        if isinstance(value, float)
    }
    return figures | {f"test/{name}_identity": v for name, v in report["identity"].items() if isinstance(v, float)}


@hydra_command("train")
def main(config: DictConfig) -> float | None:
    """Returns PSNR in dB, for a sweeper that looks for the best config."""
    check_ablations(config)
    configure_logging()
    single = HydraConfig.get().mode != RunMode.MULTIRUN  # a sweep has its own end
    failed = 1
    try:
        with open_dict(config), locked(Path(config.folder)):
            report = train(config)
        failed = 0
    except (SIGTERMException, KeyboardInterrupt):
        if not (first_process() or in_slurm_job()):
            return None  # the first one tells; Lightning would kill it for another's exit status
        if single:
            log.warning("stopped; continue with: python -m restoration.train %s", continuation(config))
        raise
    finally:
        wandb.finish(failed)
    if report is None or not first_process():
        return None
    if single:
        show([report])
        print(f"run folder: {report.folder}\nimages: {report.folder / 'images' / 'grid.png'}")
    psnr = float(report.metrics["restored"]["psnr"])
    if not math.isfinite(psnr):
        raise UserError(f"PSNR of the restored images is {psnr}; per_image.csv in the run folder shows where")
    return psnr


if __name__ == "__main__":
    main()
