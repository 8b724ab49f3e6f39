"""Judge a checkpoint: metrics.json, per_image.csv, curve.png, grid.png.

python -m restoration.evaluate checkpoint=outputs/blur_erase/first/checkpoints/best.ckpt
"""

import logging
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from restoration.backbone import Encoder
from restoration.errors import UserError
from restoration.metrics.frechet import FrechetDistance
from restoration.report.folder import Report
from restoration.report.table import show
from restoration.report.write import write_results
from restoration.restorer import Restorer
from restoration.run.checkpoint import open_checkpoint
from restoration.run.config import (
    allow_any_key,
    autocast_dtype,
    check_keys,
    command,
    output_folder,
    reference_config,
    resolve_precision,
)
from restoration.tune import tune_on_selection

__all__ = ["describe", "evaluate", "frechet_over", "run_name"]

log = logging.getLogger(__name__)


def frechet_over(encoder: dict[str, Any] | None) -> FrechetDistance | None:
    """The Fréchet distance over an encoder's pristine features; None for random weights, which measure nothing.

    Args:
        encoder: the config of `backbone.encoder`; None where the backbone has none.
    """
    if encoder is None:
        return None
    model, weights = encoder["model"], str(encoder["weights"])
    if weights == "random":
        return None
    name = Path(weights).stem if Path(weights).suffix else f"{model}_{weights}"
    # protocol.md's short name of the data set.
    name = name.replace("tiny_imagenet", "tin").replace(".", "_")
    # Another stem has other features of the same weights: its distances do not compare.
    name += "" if encoder["stem"] == "no_pool" else f"_{encoder['stem']}"
    return FrechetDistance(Encoder(model, weights, encoder["stem"]), f"frechet_{name}")


def _distance(own: dict[str, Any] | None, asked: DictConfig) -> FrechetDistance | None:
    """Over the run's own encoder (None: it has none), with the changes asked for (`frechet` of the config).

    None where no such features can be had; that is a UserError if any change was asked for.
    """
    changes: dict[str, Any] = {str(key): value for key, value in asked.items() if value is not None}
    if own is None and changes and None in asked.values():
        raise UserError("the run has no encoder of its own: give frechet.model, frechet.weights and frechet.stem")
    encoder = {**(own or {}), **changes} or None
    try:
        distance = frechet_over(encoder)
        if distance is None and changes:
            raise UserError("random weights measure nothing: give frechet.weights=FILE")
        return distance
    except UserError as error:
        if changes:
            raise UserError(f"no Fréchet distance by frechet.{', frechet.'.join(changes)}: {error}") from error
        log.warning("no Fréchet distance: %s", error)
        return None


def run_name(config: dict[str, Any]) -> str:
    """What a run is called beside others of its experiment: its name, its number in a sweep, its contender."""
    parts = (config["name"], config.get("job"), config.get("contender_name"))
    return "/".join(str(part) for part in parts if part is not None)


def describe(config: dict[str, Any], restorer: Restorer) -> dict[str, Any]:
    """What a table needs to know of a run."""
    return {
        "experiment": config["experiment_name"],
        "name": run_name(config),
        "strength": config["corruption"]["strength"],
        "severity": config["corruption"]["severity"],
        "corruption": config["corruption_name"],
        "data": config["data_name"],
        "image_size": config["data"]["image_size"],
        "sampler": config["sampler"],
        "seed": config["seed"],
        "parameters": sum(parameter.numel() for parameter in restorer.parameters()),
    }


def evaluate(config: DictConfig) -> Report:
    """The evaluation that the config asks for, written to its output folder."""
    checkpoint = Path(config.checkpoint)
    beside = checkpoint.absolute().parent
    beside = beside.parent if beside.name == "checkpoints" else beside
    output = Path(config.output) if config.output else beside / "evaluation"
    if (output / "metrics.json").exists() and not config.overwrite:
        raise UserError(f"{output} holds an evaluation; give another output=FOLDER, or overwrite=true")
    if config.split not in ("test", "selection"):
        raise UserError(f"split={config.split}: choose test, or selection for what the run chose its checkpoint on")
    restorer, trained, data = open_checkpoint(config)
    frechet = _distance(trained["backbone"].get("encoder"), config.frechet)
    device = next(restorer.parameters()).device
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


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@command
def main(config: DictConfig) -> None:
    check_keys(config, reference_config())
    report = evaluate(config)
    show([report])
    print(f"written to {report.folder}")


if __name__ == "__main__":
    sys.argv[1:] = allow_any_key(sys.argv[1:])
    main()
