"""Train a restorer, then judge it.

python -m restoration.train experiment=blur_erase
python -m restoration.train -m experiment=blur_erase corruption.strength=0.25,0.5,0.75,1.0
"""

import gc
import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf, open_dict

from restoration.errors import UserError, whole_number
from restoration.evaluate import describe, frechet_over, run_name
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import write_results
from restoration.restorer import Restorer, self_contained
from restoration.run.config import (
    allow_any_key,
    autocast_dtype,
    check_keys,
    command,
    reference_config,
    resolve_precision,
)
from restoration.run.overrides import check_contender, contenders
from restoration.run.resume import last_checkpoint, resumed
from restoration.training.batch_size import largest_batch_size
from restoration.training.loggers import finish_wandb, run_id
from restoration.training.module import RestorationModule

__all__ = ["train"]

log = logging.getLogger(__name__)


def plan(config: DictConfig) -> None:
    """Fill in what follows from other choices: precision, steps, validations, and callbacks that do not apply."""
    trainer = config.trainer
    trainer.precision = resolve_precision(trainer.precision, trainer.get("accelerator", "auto"))
    accumulated = trainer.get("accumulate_grad_batches", 1)
    if trainer.max_steps is None and trainer.get("max_epochs") is None:
        trainer.max_steps = math.ceil(config.budget.images / (config.data.batch_size * accumulated * devices(trainer)))
    trainer.max_steps = -1 if trainer.max_steps is None else trainer.max_steps
    if trainer.val_check_interval is None:
        if trainer.max_steps > 0:
            # A short run is validated once, at its end: before step 100 there is little to see.
            steps = min(trainer.max_steps, max(100, trainer.max_steps // config.validations))
            trainer.val_check_interval = steps * accumulated  # Lightning counts batches
        else:
            trainer.check_val_every_n_epoch = 1
            trainer.val_check_interval = 1.0
    best_frechet = config.callbacks.best_frechet
    if best_frechet is not None and best_frechet.monitor is None:
        best_frechet.monitor = f"val/frechet_nfe{max(config.callbacks.image_quality.nfe)}"
    encoder = config.backbone.get("encoder")
    if encoder is None or encoder.weights == "random":
        if config.callbacks.staged_unfreezing is not None:
            log.info("no pretrained encoder: nothing to protect, so all trains from the start (no stage 1)")
        config.callbacks.staged_unfreezing = None
        # A Fréchet distance over random features would measure nothing.
        config.callbacks.best_frechet = None


def devices(trainer: DictConfig) -> int:
    """On how many devices Lightning would train."""
    names = ("accelerator", "devices", "num_nodes", "strategy")
    chosen = {name: trainer[name] for name in names if name in trainer}
    return Trainer(**chosen, logger=False, enable_checkpointing=False, enable_progress_bar=False).world_size


def loggers(config: DictConfig, folder: Path, resolved: dict[str, Any]) -> list[Logger]:
    """CSV always; W&B as one run per job, in the group of its sweep."""
    made: list[Logger] = []
    for name, node in config.logger.items():
        if node is None:
            continue
        if name == "wandb":
            made.append(
                # Partial first: `instantiate` has an argument `config` of its own.
                instantiate(node, _partial_=True)(
                    save_dir=folder,
                    name=run_name(resolved),
                    group=None if resolved["job"] is None else str(config.name),
                    config=resolved,
                    run_id=run_id(folder),
                )
            )
        else:
            made.append(instantiate(node, save_dir=folder))
    return made


def images_behind(config: dict[str, Any]) -> int:
    """How many images a regression inside the source has seen: its training is part of this one's cost."""
    if "restorer" not in config["source"]:
        return 0
    checkpoint = torch.load(config["source"]["restorer"]["path"], map_location="cpu", weights_only=True, mmap=True)
    trained = checkpoint["config"]
    batch_size = trained["data"]["batch_size"] * trained["trainer"].get("accumulate_grad_batches", 1)
    return checkpoint["global_step"] * batch_size


def train(config: DictConfig) -> Report | None:
    """One run, from the config to its folder.

    The report comes from the first of several processes only, and not after Lightning's fast run.

    Raises:
        UserError: something in the config, the data or the folder must be mended.
        FloatingPointError: the loss was not finite.
    """
    began = time.monotonic()
    for name in ("logger", "callbacks"):
        if name in config.trainer:
            raise UserError(
                f"trainer.{name} would not be heard; loggers and callbacks are set in the groups logger and callbacks, "
                "such as logger.wandb=null or callbacks.early_stopping=null"
            )
    whole_number("validations", config.validations, 1)
    if isinstance(config.evaluation.nfe, int):
        config.evaluation.nfe = [config.evaluation.nfe]  # files take its first
    folder = Path(config.folder)
    checkpoint = last_checkpoint(config, folder)
    if checkpoint is None:
        choices = HydraConfig.get().runtime.choices
        notes = {f"{group}_name": choices[group] for group in ("experiment", "data", "corruption")}
        notes["contender_name"] = "+".join(contenders()) or None
        notes["job"] = HydraConfig.get().job.num if HydraConfig.get().mode == RunMode.MULTIRUN else None
    else:
        config, notes = resumed(config, checkpoint, folder)
    resolved: dict[str, Any] = {**OmegaConf.to_container(config, resolve=True), **notes}  # type: ignore[dict-item]
    OmegaConf.save(config, folder / "config.yaml", resolve=True)

    seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data, corruption=instantiate(config.corruption))
    if "source.restorer.path" in OmegaConf.missing_keys(config):
        raise UserError("give source.restorer.path=…/checkpoints/best.ckpt of a regression")
    restorer = Restorer.build(resolved)
    if checkpoint is None:
        resolved["images_behind"] = images_behind(resolved)  # after `build`, which says what may be wrong with the file
    restorer.check_size(config.data.image_size)
    data.prepare_data()
    objective = instantiate(config.objective)
    if config.data.batch_size == "auto":
        config.data.batch_size = data.batch_size = largest_batch_size(restorer, objective, config.data.image_size)
        resolved["data"]["batch_size"] = data.batch_size
    plan(config)
    module = RestorationModule(
        restorer,
        objective,
        instantiate(config.optimizer),
        instantiate(config.schedule),
        config=self_contained(resolved),
        seed=config.seed,
        compile=config.compile,
    )
    frechet = frechet_over(resolved["backbone"].get("encoder"))
    callbacks = [
        instantiate(node, frechet=frechet) if name == "image_quality" else instantiate(node)
        for name, node in config.callbacks.items()
        if node is not None
    ]
    trainer: Trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers(config, folder, resolved))
    log.info("%s: %s parameters", type(restorer.backbone).__name__, f"{sum(p.numel() for p in module.parameters()):,}")
    if checkpoint is not None:
        log.info("going on from %s", checkpoint)
    log.info("%s steps, validation every %s", trainer.max_steps, trainer.val_check_interval)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    seconds = time.monotonic() - began
    if config.trainer.get("fast_dev_run"):
        log.info("the fast run went through; it leaves no checkpoint, so nothing is judged")
        return None
    if not trainer.is_global_zero:
        return None

    best = folder / "checkpoints" / "best.ckpt"
    judged = Restorer.load(best if best.is_file() else folder / "checkpoints" / "last.ckpt", module.device)
    evaluation = instantiate(config.evaluation, frechet=frechet, dtype=autocast_dtype(config.trainer.precision))
    result = evaluation(judged, data.batches("test", module.device))
    steps = trainer.global_step
    run = describe(resolved, judged) | {
        "images_seen": resolved["images_behind"]
        + steps * data.batch_size * trainer.accumulate_grad_batches * trainer.world_size,
        "steps": steps,
        "training_seconds": seconds,
    }
    report = write_results(result, run, folder)
    for logger in trainer.loggers:
        logger.log_metrics(_summary(result.report), step=steps)
        if isinstance(logger, WandbLogger):
            logger.log_image("test/grid", [str(folder / "images" / "grid.png")], step=steps)
        logger.save()
    return report


def _summary(report: dict[str, Any]) -> dict[str, float]:
    """The evaluation as flat figures, columns of a dashboard."""
    figures = {
        f"test/{name}_nfe{point['nfe']}": value
        for point in report["by_nfe"]
        for name, value in point.items()
        if isinstance(value, float)
    }
    return figures | {f"test/{name}_identity": v for name, v in report["identity"].items() if isinstance(v, float)}


def quieten() -> None:
    """Lightning's warnings once, in train.log too; without those that this project answers by design."""
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    for message in (
        ".*module\\(s\\) in eval mode at the start.*",  # the encoder's batch statistics are frozen
        ".*does not have many workers.*",  # gathering from the store is faster without
        ".*dataloader is not resumable.*",  # the sampler is: it starts at the interrupted batch
        ".*isinstance\\(treespec, LeafSpec\\).*",  # between Lightning and torch
    ):
        warnings.filterwarnings("ignore", message=message)


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@command
def main(config: DictConfig) -> None:
    check_keys(config, reference_config())
    check_contender(config)
    quieten()
    failed = 1
    try:
        with open_dict(config):
            report = train(config)
        failed = 0
        if report is None:
            return
        if HydraConfig.get().mode != RunMode.MULTIRUN:  # a sweep has one table of all jobs
            show([report])
        print(f"run folder: {report.folder}\npicture: {report.folder / 'images' / 'grid.png'}")
    except (SIGTERMException, KeyboardInterrupt):
        if (Path(config.folder) / "checkpoints" / "last.ckpt").is_file():
            names = f"experiment={HydraConfig.get().runtime.choices['experiment']} name={config.name}"
            log.warning("stopped; go on with: python -m restoration.train %s resume=true", names)
        raise
    finally:
        # The jobs of a sweep share this process.
        finish_wandb(failed)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.argv[1:] = allow_any_key(sys.argv[1:])
    main()
