"""Evaluate a checkpoint: metrics.json, per_image.csv, curve.png, grid.png.

python -m restoration.evaluate checkpoint=outputs/blur_erase/first

On a run folder it repeats the run's own evaluation, and says what differs.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from restoration.classifier import Classifier
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.metrics.frechet import FrechetDistance, encoder_distance
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_results
from restoration.run.checkpoint import best_checkpoint, open_checkpoint, weights_of
from restoration.run.command import hydra_command, output_folder
from restoration.run.hardware import autocast_dtype, resolve_precision
from restoration.run.overrides import Overrides
from restoration.run.provenance import repeated
from restoration.tune import tune_on_selection

log = logging.getLogger(__name__)

# With other keys the evaluation is another one than the run's.
_SAME = {"checkpoint", "output", "overwrite", "device", "trust", "data.root", "data.device"}


def _distance(own: dict[str, Any] | None, asked: DictConfig) -> FrechetDistance | None:
    """Over the run's own encoder (None: it has none), with the changes of the config's `frechet`.

    None if such features are not available; that is a UserError if any change was asked for.
    """
    changes: dict[str, Any] = {str(key): value for key, value in asked.items() if value is not None}
    if own is None and changes and None in asked.values():
        raise UserError("the run has no encoder of its own: give frechet.model, frechet.weights and frechet.stem")
    encoder = {**(own or {}), **changes} or None
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


def _classifier(config: DictConfig, data: RestorationDataModule, device: torch.device) -> Classifier | None:
    """That of `config.classifier`, for these data; None if none is asked for.

    Raises:
        UserError: the data have no classes, or others.
    """
    if config.classifier is None:
        return None
    classifier = Classifier.load(weights_of(config.classifier), device, config.trust)
    if data.classes is None:
        raise UserError(f"classifier={config.classifier}: the data have no classes; leave it out, or give other data=")
    if data.classes != classifier.classes:
        known, shown = (f"{len(names)} ({', '.join(names[:3])} …)" for names in (classifier.classes, data.classes))
        raise UserError(
            f"classifier={config.classifier} knows {known} classes, and the data have {shown}; give another"
        )
    return classifier


def evaluate(config: DictConfig) -> tuple[Report, list[str]]:
    """The evaluation that the config asks for, written to its output folder.

    Returns:
        The report; if the run's own evaluation was repeated, what differs from it, for the user.
    """
    checkpoint = Path(config.checkpoint)
    if checkpoint.is_dir():
        checkpoint = best_checkpoint(checkpoint)
        config.checkpoint = str(checkpoint)
    beside = checkpoint.absolute().parent
    beside = beside.parent if beside.name == "checkpoints" else beside
    output = Path(config.output) if config.output else beside / "evaluation"
    if (output / "metrics.json").exists() and not config.overwrite:
        raise UserError(f"{output} holds an evaluation; give another output=FOLDER, or overwrite=true")
    restorer, trained, data = open_checkpoint(config)
    given = Overrides()
    for key, value in trained["evaluation"].items() if "evaluation" not in given.keys else ():
        if not given.given(f"evaluation.{key}"):  # as at the end of the run
            config.evaluation[key] = value
    frechet = _distance(trained["backbone"].get("encoder"), config.frechet)
    device = restorer.device
    precision = resolve_precision(config.precision or trained["trainer"]["precision"], device.type)
    judges = {"frechet": frechet, "classifier": _classifier(config, data, device)}
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
        **({"classifier": str(config.classifier)} if config.classifier else {}),
    }
    report = write_results(result, run, output)
    own = checkpoint.resolve() == best_checkpoint(beside).resolve() and (beside / "metrics.json").is_file()
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
