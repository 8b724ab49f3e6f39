"""Evaluate a restorer (metrics.json, per_image.csv, curve.png, grid.png) or classifiers (metrics.json, confusion.png).

python -m restoration.evaluate checkpoint=outputs/blur_erase/first
python -m restoration.evaluate classifier=[outputs/mnist_digits/first,outputs/mnist_digits/second]

On the run folder of a restorer it repeats the run's own evaluation, and says what differs.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from restoration.backbone.pretrained import facts_of
from restoration.checkpoint_file import weights_of
from restoration.classifier import Classifier, Ensemble
from restoration.classifier.ensemble import shown_classes
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.metrics.fid import NAME as FID
from restoration.metrics.frechet import FrechetDistance, encoder_distance
from restoration.metrics.recognition import recognise
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_recognition, write_results
from restoration.run.checkpoint import open_checkpoint, open_data
from restoration.run.command import hydra_command, output_folder
from restoration.run.hardware import autocast_dtype, resolve_precision, usable_device
from restoration.run.overrides import Overrides, below
from restoration.run.provenance import repeated
from restoration.tune import tune_on_selection

log = logging.getLogger(__name__)

# With other keys the evaluation is another one than the run's.
_SAME = {"checkpoint", "output", "overwrite", "device", "trust", "data.root", "data.device"}

# Keys of an evaluation of classifiers alone.
_OF_CLASSIFIERS = ("classifier", "split", "output", "overwrite", "device", "trust", "precision", "data")


def _distance(own: dict[str, Any] | None, asked: DictConfig) -> FrechetDistance | None:
    """Over the run's own encoder (None: it has none), with the changes of the config's `frechet`.

    None if such features are not available; that is a UserError if any change was asked for.
    """
    changes: dict[str, Any] = {str(key): value for key, value in asked.items() if value is not None}
    facts = facts_of(Path(str(asked.weights)))  # what a file of pretrain says need not be given
    own = {**(own or {}), **{key: facts[key] for key in ("model", "stem") if key in facts}} or None
    if asked.model == FID:
        own = {"weights": None, "stem": None}
    encoder = {**(own or {}), **changes} or None
    if changes and not {"model", "weights", "stem"} <= (encoder or {}).keys():
        raise UserError("the run has no encoder of its own: give frechet.model, frechet.weights and frechet.stem")
    try:
        distance = encoder_distance(encoder)
        if distance is None and changes:
            raise UserError("random weights give no meaningful distance: give frechet.weights=FILE")
        return distance
    except UserError as error:
        if changes:
            raise UserError(f"no Fréchet distance by frechet.{', frechet.'.join(changes)}: {error}") from error
        log.warning("no Fréchet distance: %s", error)
        return None


def _paths(config: DictConfig) -> list[str]:
    """The checkpoints of classifiers that the config asks for; none if `classifier` is null."""
    asked = config.classifier
    if asked is not None and not len(asked):
        raise UserError("classifier is empty: give one or more checkpoints, or leave it out")
    return [] if asked is None else [asked] if isinstance(asked, str) else [str(path) for path in asked]


def _classifiers(config: DictConfig, device: torch.device) -> list[Classifier]:
    return [Classifier.load(path, device, config.trust) for path in _paths(config)]


def _judge(members: list[Classifier], config: DictConfig, data: RestorationDataModule) -> Classifier | Ensemble | None:
    """The classifiers as one, for these data; None if there are none.

    Raises:
        UserError: the data have no classes, or others, or not all classifiers know the same.
    """
    if not members:
        return None
    together = members[0] if len(members) == 1 else Ensemble(members)
    if data.classes is None:
        raise UserError(f"classifier={config.classifier}: the data have no classes; leave it out, or give other data=")
    if data.classes != together.classes:
        known, shown = map(shown_classes, (together.classes, data.classes))
        raise UserError(
            f"classifier={config.classifier} knows {known} classes, and the data have {shown}; give another"
        )
    return together


def judge(config: DictConfig, data: RestorationDataModule, device: torch.device) -> Classifier | Ensemble | None:
    """What judges restored images: the classifiers of the config, as `_judge` has them."""
    return _judge(_classifiers(config, device), config, data)


def _check_one_set(members: list[Classifier], trained: dict[str, Any]) -> None:
    """UserError if classifiers of other folds have trained on images of the test, or see images of another size."""
    for member in members:
        own, data = member.config["data"], trained["data"]
        if data.get("folds") and any(own.get(name) != data.get(name) for name in ("folds", "fold")):
            raise UserError(
                f"classifier: data.fold={data['fold']} is not the test of every run, so one has trained on its images; "
                "give runs of one fold, or take the data's own test by data.folds=null data.fold=null"
            )
        if own["image_size"] != data["image_size"] and not Overrides().given("data.image_size"):
            sizes = f"{data['image_size']} and {own['image_size']}"
            raise UserError(f"classifier: these runs have images of {sizes} pixels; give data.image_size= for all")


def recognition(config: DictConfig) -> Report:
    """How well classifiers know clean images, as the end of `pretrain` measures it; several answer as an ensemble.

    The data are those of the first one's run, with the changes of the config.
    """
    keys = [key for key in Overrides().keys if not key.startswith("hydra")]
    if config.classifier is None:
        raise UserError(
            "nothing to evaluate: give checkpoint=, a run of restoration.train, or classifier=, a run of "
            "restoration.pretrain or a list of them"
        )
    if others := [key for key in keys if not below(key, _OF_CLASSIFIERS)]:
        raise UserError(f"{others[0]} is about a restorer: give its checkpoint= too, or leave {others[0]} out")
    device = usable_device(str(config.device))
    members = _classifiers(config, device)
    places = _paths(config)
    folders = [_run_folder(weights_of(path)) for path in places]
    beside = Path(os.path.commonpath(folders)) / ("evaluation" if len(places) == 1 else "ensemble")
    output = _free_output(config, beside)
    trained = {**members[0].config, "run": {**members[0].config["run"]}}
    data = open_data(trained, config)
    _check_one_set(members, trained)
    together = _judge(members, config, data)
    assert together is not None
    precision = resolve_precision(config.precision or trained["trainer"]["precision"], device.type)
    figures, confusions = recognise(together, data.batches(config.split, device), autocast_dtype(precision))
    run = describe(trained, together) | {"checkpoint": places, "split": config.split, "precision": str(precision)}
    if len(places) > 1:
        run |= {"name": f"{len(places)} classifiers", "seed": None}
    return write_recognition(figures, confusions, together.classes, run, output_folder(output))[0]


def _run_folder(checkpoint: Path) -> Path:
    """The run folder of a checkpoint, or the folder in which it lies elsewhere."""
    beside = checkpoint.absolute().parent
    return beside.parent if beside.name == "checkpoints" else beside


def _free_output(config: DictConfig, default: Path) -> Path:
    """The folder of the results. UserError if it holds others."""
    output = Path(config.output) if config.output else default
    if (output / "metrics.json").exists() and not config.overwrite:
        raise UserError(f"{output} holds an evaluation; give another output=FOLDER, or overwrite=true")
    return output


def evaluate(config: DictConfig) -> tuple[Report, list[str]]:
    """The evaluation that the config asks for, written to its output folder.

    Returns:
        The report; if the run's own evaluation was repeated, what differs from it, for the user.
    """
    if config.checkpoint is None:
        return recognition(config), []
    checkpoint = weights_of(config.checkpoint)
    config.checkpoint = str(checkpoint)
    beside = _run_folder(checkpoint)
    output = _free_output(config, beside / "evaluation")
    restorer, trained, data = open_checkpoint(config)
    given = Overrides()
    for key, value in trained["evaluation"].items() if "evaluation" not in given.keys else ():
        if not given.given(f"evaluation.{key}"):  # as at the end of the run
            config.evaluation[key] = value
    if config.classifier is None and Path(str(trained.get("classifier"))).exists():
        config.classifier = trained["classifier"]
    frechet = _distance(trained["backbone"].get("encoder"), config.frechet)
    device = restorer.device
    precision = resolve_precision(config.precision or trained["trainer"]["precision"], device.type)
    judges = {"frechet": frechet, "classifier": judge(config, data, device)}
    evaluation = instantiate(config.evaluation, **judges, dtype=autocast_dtype(precision))
    output_folder(output)
    if config.tune:
        warp, after, before = tune_on_selection(restorer, data, precision)
        print(f"steps fitted: RMSE to 500 Euler steps {before:.4f} uniform, {after:.4f} with sampler.warp={list(warp)}")
        trained["sampler"] = {**trained["sampler"], "warp": list(warp)}
        restorer.sampler = instantiate(trained["sampler"])
    result = evaluation(restorer, data.batches(config.split, device))
    run = describe(trained, restorer) | {
        "checkpoint": str(checkpoint),
        "split": config.split,
        "precision": str(precision),
        **({"classifier": _paths(config)} if config.classifier else {}),
    }
    report = write_results(result, run, output)
    own = checkpoint.resolve() == weights_of(beside).resolve() and (beside / "metrics.json").is_file()
    if not own or not set(given.keys) <= _SAME:
        return report, []
    return report, repeated(report, beside, data.splits, device)


@hydra_command("evaluate")
def main(config: DictConfig) -> None:
    report, said = evaluate(config)
    show([report])
    for line in said:
        print(line)
    print(f"written to {report.folder}")


if __name__ == "__main__":
    main()
