"""The files of an evaluation."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from restoration.metrics.evaluation import EvaluationResult
from restoration.metrics.pictures import picture_grid
from restoration.report.curves import nfe_curve
from restoration.report.folder import Report
from restoration.report.table import write_csv


def write_results(result: EvaluationResult, run: dict[str, Any], folder: Path) -> Report:
    """Writes metrics.json, per_image.csv, images/curve.png and images/grid.png.

    Args:
        run: a description of the run, stored under `run` in metrics.json.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    metrics = {**result.report, "run": run}
    write_csv(result.rows, folder / "per_image.csv", list(result.rows[0]))
    picture_grid(result.examples).save(images / "grid.png")
    nfe_curve(metrics).savefig(images / "curve.png")
    return write_metrics(metrics, folder)


def write_metrics(metrics: dict[str, Any], folder: Path) -> Report:
    """Writes metrics.json."""
    part = folder / "metrics.json.part"
    part.write_text(json.dumps(metrics, indent=2) + "\n")
    part.replace(folder / "metrics.json")  # the last file, and whole: it says that the run is done
    return Report(folder, metrics)


def describe(config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """What a table needs to know about a run."""
    corruption = config.get("corruption") or {}
    return {
        "experiment": config["run"]["experiment"],
        "name": config["run"]["label"],
        **{name: corruption[name] for name in ("strength", "severity") if name in corruption},
        "corruption": config["run"]["corruption"],
        "data": config["run"]["data"],
        "image_size": config["data"]["image_size"],
        **{name: config[name] for name in ("sampler", "model") if name in config},
        "seed": config["seed"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
