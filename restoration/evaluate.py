"""Evaluate a checkpoint: metrics.json, per_image.csv, curve.png, grid.png.

python -m restoration.evaluate checkpoint=outputs/blur_erase/first/checkpoints/best.ckpt
"""

import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from restoration.errors import UserError
from restoration.metrics.frechet import FrechetDistance, encoder_distance
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import describe, write_results
from restoration.run.checkpoint import open_checkpoint
from restoration.run.command import hydra_command, output_folder
from restoration.run.hardware import autocast_dtype, resolve_precision
from restoration.run.overrides import Overrides
from restoration.tune import tune_on_selection

log = logging.getLogger(__name__)


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


def evaluate(config: DictConfig) -> Report:
    """The evaluation that the config asks for, written to its output folder."""
    checkpoint = Path(config.checkpoint)
    beside = checkpoint.absolute().parent
    beside = beside.parent if beside.name == "checkpoints" else beside
    output = Path(config.output) if config.output else beside / "evaluation"
    if (output / "metrics.json").exists() and not config.overwrite:
        raise UserError(f"{output} holds an evaluation; give another output=FOLDER, or overwrite=true")
    restorer, trained, data = open_checkpoint(config)
    if not Overrides().given("evaluation.nfe"):  # what the restorer was trained for
        config.evaluation.nfe = trained["evaluation"]["nfe"]
    frechet = _distance(trained["backbone"].get("encoder"), config.frechet)
    device = restorer.device
    precision = resolve_precision(config.precision or trained["trainer"]["precision"], device.type)
    evaluation = instantiate(config.evaluation, frechet=frechet, dtype=autocast_dtype(precision))
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
    }
    return write_results(result, run, output)


@hydra_command("evaluate")
def main(config: DictConfig) -> None:
    report = evaluate(config)
    show([report])
    print(f"written to {report.folder}")


if __name__ == "__main__":
    main()
