"""Train a classifier, evaluate it, and keep its weights as an encoder for restorers.

python -m restoration.pretrain experiment=mnist_digits
python -m restoration.pretrain -m experiment=mnist_digits seed=0,1,2,3,4,5
"""

import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from restoration.classifier import Classifier
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.metrics.recognition import recognise
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_metrics
from restoration.run.command import hydra_command
from restoration.run.hardware import autocast_dtype
from restoration.run.job import Run, alone, guarded, make_callbacks, make_trainer, run_job
from restoration.training.classification import ClassifierModule
from restoration.trust import named

log = logging.getLogger(__name__)

ENCODER = "encoder.safetensors"


def pretrain(config: DictConfig) -> Report | None:
    """One run of a classifier, as `run_job`."""
    return run_job(config, build, evaluate)


def build(config: dict[str, Any], folder: Path, new: bool = True) -> Run[ClassifierModule]:
    """The objects of a run. Whatever may be wrong with the config or the data shows here, before training starts."""
    seed_everything(config["seed"], workers=True, verbose=False)
    data: RestorationDataModule = instantiate(config["data"], corruption=None)
    loss, augmentation = instantiate(config["loss"]), instantiate(config["augmentation"])
    data.prepare_data()
    if data.classes is None:
        raise UserError(
            f"data={config['run']['data']} has no classes; use data=mnist, data=tiny_imagenet, or data=class_folder "
            "with a folder for each class"
        )
    if config["model"].get("classes", data.classes) != data.classes:  # of the run that is resumed
        raise UserError("the classes of the data are not those that this run began with; start a new run")
    model = {**config["model"], "classes": data.classes}
    classifier: Classifier = instantiate(model if new else {**model, "weights": "checkpoint"})
    module = ClassifierModule(
        classifier,
        loss,
        augmentation,
        instantiate(config["optimizer"]),
        instantiate(config["schedule"]),
        config={**config, "model": model},
        seed=config["seed"],
        compile=config["compile"],
    )
    trainer = make_trainer(config, data, make_callbacks(config))
    size = sum(parameter.numel() for parameter in classifier.parameters())
    log.info("%s: %s parameters, %s classes", classifier.name, f"{size:,}", len(data.classes))
    log.info("%s steps, validation every %s", trainer.max_steps, trainer.val_check_interval)
    return Run(config, folder, data, module, trainer)


def evaluate(run: Run[ClassifierModule]) -> Report:
    """The evaluation that a run ends with, of its best weights; written to its folder and its loggers."""
    module, steps = run.module, run.trainer.global_step
    classifier = Classifier.load(run.best(), module.device, named(module.config))
    classifier.write(run.folder / ENCODER)
    dtype = autocast_dtype(run.config["trainer"]["precision"])
    figures = recognise(classifier, run.data.batches("test", module.device), dtype)
    facts = run.facts()
    about = describe(run.config, classifier) | facts
    report = write_metrics({**figures, "images_seen": facts["images_seen"], "run": about}, run.folder)
    for logger in run.trainer.loggers:
        logger.log_metrics(
            {f"test/{name}": value for name, value in figures.items() if isinstance(value, float)}, steps
        )
        logger.save()
    return report


@hydra_command("pretrain")
def main(config: DictConfig) -> float | None:
    """Returns top-1, for a sweeper that looks for the best config."""
    report = guarded(config, pretrain)
    if report is None:
        return None
    if alone():
        show([report])
        encoder = report.folder / ENCODER
        print(f"run folder: {report.folder}\nencoder for restorers: backbone.encoder.weights={encoder}")
    return float(report.metrics["top1"])


if __name__ == "__main__":
    main()
