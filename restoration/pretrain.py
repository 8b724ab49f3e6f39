"""Train a classifier, evaluate it, and keep its weights as an encoder for restorers.

python -m restoration.pretrain experiment=mnist_digits
python -m restoration.pretrain -m experiment=mnist_digits seed=0,1,2,3,4,5
"""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig

from restoration.checkpoint_file import weights_of
from restoration.classifier import Augmentation, Classifier, Full, Resizing, Restored
from restoration.classifier.model import ENCODER
from restoration.classifier.size import flops, memory
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.metrics.recognition import recognise
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_recognition
from restoration.run.command import hydra_command
from restoration.run.hardware import autocast_dtype
from restoration.run.job import Run, alone, guarded, make_callbacks, make_trainer, run_job
from restoration.training.classification import ClassifierModule
from restoration.training.restored import restored_variants
from restoration.trust import named

log = logging.getLogger(__name__)


def pretrain(config: DictConfig) -> Report | None:
    """One run of a classifier, as `run_job`."""
    return run_job(config, build, evaluate)


def build(config: dict[str, Any], folder: Path, new: bool = True) -> Run[ClassifierModule]:
    """The objects of a run. Whatever may be wrong with the config or the data shows here, before training starts."""
    seed_everything(config["seed"], workers=True, verbose=False)
    data: RestorationDataModule = instantiate(config["data"], corruption=None)
    names = ("loss", "augmentation", "transfer", "resizing", "optimizer", "schedule")
    parts = {name: instantiate(config.get(name)) for name in names}  # an older run has no transfer
    transfer: Full = parts["transfer"] or Full()
    rates = dict(config.get("regularisation") or {})
    l1 = rates.pop("l1", 0.0)
    data.prepare_data()
    if data.classes is None:
        raise UserError(
            f"data={config['run']['data']} has no classes; use data=mnist, data=tiny_imagenet, or data=class_folder "
            "with a folder for each class"
        )
    if config["model"].get("classes", data.classes) != data.classes:  # of the run that is resumed
        raise UserError("the classes of the data are not those that this run began with; start a new run")
    model = {**config["model"], "classes": data.classes}
    # A model takes the rates that it knows, and few models know all.
    model["options"] = {**model.get("options", {}), **{name: rate for name, rate in rates.items() if rate}}
    classifier: Classifier = instantiate(model if new else {**model, "weights": "checkpoint"})
    transfer.prepare(classifier.model)
    classifier.train()
    if transfer.cached and any(rates.values()):
        raise UserError("transfer=cached_features has no dropout: give no rates, or use transfer=linear_probe")
    check_images(classifier, data, transfer, parts["augmentation"], parts["resizing"])
    module = ClassifierModule(
        classifier,
        **{**parts, "transfer": transfer},
        l1=l1,
        config={**config, "model": model},
        seed=config["seed"],
        compile=config["compile"],
    )
    trainer = make_trainer(config, data, make_callbacks(config))
    tell_size(module, data)
    add_restored(config, data, parts["augmentation"].restored, trainer.strategy.root_device)
    log.info("%s steps, validation every %s", trainer.max_steps, trainer.val_check_interval)
    return Run(config, folder, data, module, trainer)


def add_restored(
    config: dict[str, Any], data: RestorationDataModule, settings: Restored | None, device: torch.device
) -> None:
    """Lets restored variants take the place of some training images, if the config asks for it.

    Raises:
        UserError: `corruption` or `augmentation.restored` is missing beside the other, or as `restored_variants`.
    """
    if (settings is None) != (config.get("corruption") is None):
        raise UserError(
            "corruption= is the damage of augmentation=restored: give both, such as augmentation=restored "
            "corruption=photo, or neither"
        )
    if settings is None or not settings.share:
        return
    files = {name: getattr(settings, name) for name in ("restorer", "hard")}
    files = {name: None if path is None else str(weights_of(path)) for name, path in files.items()}
    variants = restored_variants(
        data,
        replace(settings, **files),
        instantiate(config["corruption"]),
        json.dumps(config["corruption"], sort_keys=True),
        device,
        config["trust"],
    )
    data.replacements.insert(0, variants)  # extra images have no variants


def check_images(
    classifier: Classifier,
    data: RestorationDataModule,
    transfer: Full,
    augmentation: Augmentation,
    resizing: Resizing | None,
) -> None:
    """UserError if the classifier cannot see the images as they will come."""
    varies = augmentation.varies or data.flip or data.flat_areas or data.enlarged or data.replacements
    if transfer.cached and (varies or resizing):
        raise UserError(
            "transfer=cached_features sees each image once, as it is: give augmentation=none data.flip=false "
            "data.flat_areas=0 data.enlarged=0 data.extra=null data.extra_share=null resizing=null, or use "
            "transfer=linear_probe"
        )
    for progress in (0.0, 1.0):
        side = resizing.side(data.image_size, progress) if resizing else data.image_size
        try:
            flops(classifier, side)
        except (AssertionError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{classifier.name} does not take images of {side} x {side} pixels ({reason}); change data.image_size, "
                "resizing, or model.options (of a transformer: img_size, dynamic_img_size=true)"
            ) from error


def tell_size(module: ClassifierModule, data: RestorationDataModule) -> None:
    """Says what the training will cost, before it starts."""
    classifier, side = module.classifier, data.image_size
    groups = module.parameter_groups()
    size = sum(parameter.numel() for parameter in classifier.parameters())
    trains = sum(parameter.numel() for parameters, _ in groups.values() for parameter in parameters)
    log.info(
        "%s, %s classes: %s parameters, of which %s train",
        *(classifier.name, len(classifier.classes), f"{size:,}", f"{trains:,}"),
    )
    needs = memory(classifier, groups, module.optimizer, side, data.batch_size)
    told = ", ".join(f"{name} {count / 2**20:,.1f}" for name, count in needs.items())
    log.info("%.3f GFLOPs for an image of %s x %s pixels", flops(classifier, side) / 1e9, side, side)
    log.info("about %s MiB of memory in training, in float32 (%s)", f"{sum(needs.values()) / 2**20:,.0f}", told)


def evaluate(run: Run[ClassifierModule]) -> Report:
    """The evaluation that a run ends with, of its best weights; written to its folder and its loggers."""
    module, steps = run.module, run.trainer.global_step
    classifier = Classifier.load(run.best(), module.device, named(module.config))
    classifier.write(run.folder / ENCODER)
    dtype = autocast_dtype(run.config["trainer"]["precision"])
    figures, confusions = recognise(classifier, run.data.batches("test", module.device), dtype)
    facts = run.facts()
    trained = module.transfer.parameter_groups(module.classifier.model).values()
    facts["trainable"] = sum(parameter.numel() for parameters, _ in trained for parameter in parameters)
    figures["images_seen"] = facts["images_seen"]
    about = describe(run.config, classifier) | facts
    report, picture = write_recognition(figures, confusions, classifier.classes, about, run.folder)
    for logger in run.trainer.loggers:
        logger.log_metrics(
            {f"test/{name}": value for name, value in report.metrics.items() if isinstance(value, float)}, steps
        )
        if isinstance(logger, WandbLogger):
            logger.log_image("test/confusion", [picture])
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
