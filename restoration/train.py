"""Train a restorer, then evaluate it.

python -m restoration.train experiment=blur_erase
python -m restoration.train -m experiment=blur_erase corruption.strength=0.25,0.5,0.75,1.0
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

from restoration.callbacks import ImageQuality
from restoration.callbacks.image_grid import log_samples
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.evaluate import judge
from restoration.metrics.evaluation import Evaluation
from restoration.metrics.frechet import encoder_distance
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import SEEN, describe, write_results
from restoration.restorer import Restorer
from restoration.run.checkpoint import initialize, self_contained
from restoration.run.command import hydra_command
from restoration.run.hardware import autocast_dtype
from restoration.run.job import Run, alone, guarded, make_callbacks, make_trainer, run_job
from restoration.run.keys import check_ablations
from restoration.training.module import RestorationModule
from restoration.trust import named

log = logging.getLogger(__name__)


@dataclass
class RestorerRun(Run[RestorationModule]):
    """The training of a restorer."""

    evaluation: Evaluation


def train(config: DictConfig) -> Report | None:
    """One run of a restorer, as `run_job`."""
    return run_job(config, build, evaluate)


def build(config: dict[str, Any], folder: Path, new: bool = True) -> RestorerRun:
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
    if new and config["init"]:
        initialize(restorer, config["init"], config["trust"])
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
    asked = OmegaConf.create({name: config.get(name) for name in ("classifier", "trust")})  # older runs have none
    judges = {"frechet": frechet, "classifier": judge(asked, data, torch.device("cpu"))}
    evaluation = instantiate(config["evaluation"], **judges, dtype=dtype)
    callbacks = make_callbacks(config)
    for callback in callbacks:
        if isinstance(callback, ImageQuality):
            callback.frechet = frechet
    trainer = make_trainer(config, data, callbacks)
    size = sum(parameter.numel() for parameter in module.parameters())
    log.info("%s: %s parameters", type(restorer.backbone).__name__, f"{size:,}")
    log.info("%s steps, validation every %s", trainer.max_steps, trainer.val_check_interval)
    return RestorerRun(config, folder, data, module, trainer, evaluation)


def evaluate(run: RestorerRun) -> Report:
    """The evaluation that a run ends with, of its best weights; written to its folder and its loggers."""
    module, steps = run.module, run.trainer.global_step
    restorer = Restorer.load(run.best(), module.device, named(module.config))
    if run.evaluation.classifier is not None:
        run.evaluation.classifier.to(module.device)
    result = run.evaluation(restorer, run.data.batches("test", module.device))
    report = write_results(result, describe(run.config, restorer) | run.facts(), run.folder)
    for logger in run.trainer.loggers:
        logger.log_metrics(_summary(result.report), step=steps)
        if isinstance(logger, WandbLogger):
            shown = result.rows[: len(result.examples["clean"])]
            log_samples(logger, "test", result.examples, [row["index"] for row in shown], steps)
            if result.seen is not None:
                logger.log_image("test/grad_cam", [str(run.folder / "images" / SEEN)], steps)
            for row in _by_severity(result.report):
                logger.log_metrics(row, step=steps)
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


def _by_severity(report: dict[str, Any]) -> list[dict[str, float]]:
    """A row for each interval of severities, at its middle `severity/u`: points of a curve on a dashboard."""
    rows = []
    for group in report["by_severity"]:
        figures = {f"{name}_nfe{point['nfe']}": value for point in group["by_nfe"] for name, value in point.items()}
        figures |= {f"{name}_identity": value for name, value in group["identity"].items()}
        row = {f"severity/{name}": value for name, value in figures.items() if isinstance(value, float)}
        rows.append({"severity/u": (group["low"] + group["high"]) / 2, **row})
    return rows


@hydra_command("train")
def main(config: DictConfig) -> float | None:
    """Returns PSNR in dB, for a sweeper that looks for the best config."""
    check_ablations(config)
    report = guarded(config, train)
    if report is None:
        return None
    if alone():
        show([report])
        print(f"run folder: {report.folder}\nimages: {report.folder / 'images' / 'grid.png'}")
    psnr = float(report.metrics["restored"]["psnr"])
    if not math.isfinite(psnr):
        raise UserError(f"PSNR of the restored images is {psnr}; per_image.csv in the run folder shows where")
    return psnr


if __name__ == "__main__":
    main()
