"""The files of an evaluation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from restoration.metrics.evaluation import EvaluationResult
from restoration.metrics.pictures import picture_grid
from restoration.report.confusion import confusion_picture
from restoration.report.curves import nfe_curve
from restoration.report.folder import Report
from restoration.report.seen import seen_picture
from restoration.report.table import write_csv

SAMPLES = Path("images", "samples")  # in the folder of an evaluation
SEEN = "grad_cam.png"  # in `images`
SAMPLE_SIDE = 256  # pixels; of larger images the middle is kept


def write_results(result: EvaluationResult, run: dict[str, Any], folder: Path) -> Report:
    """Writes metrics.json, per_image.csv, images/curve.png and images/grid.png, and the images of the grid alone.

    These are `images/samples/<index>_<kind>.png`, of the kinds clean, degraded, and nfe1 and so on, without enlarging:
    runs that were evaluated on the same images have the same names. With a classifier, also images/grad_cam.png.

    Args:
        run: a description of the run, stored under `run` in metrics.json.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    metrics = {**result.report, "run": run}
    write_csv(result.rows, folder / "per_image.csv", list(result.rows[0]))
    picture_grid(result.examples).save(images / "grid.png")
    _write_samples(result, folder / SAMPLES)
    nfe_curve(metrics).savefig(images / "curve.png")
    if result.seen is not None:
        seen_picture(result.examples, result.seen).save(images / SEEN)
    return write_metrics(metrics, folder)


def write_recognition(
    figures: dict[str, Any], confusions: Tensor, classes: Sequence[str], run: dict[str, Any], folder: Path
) -> tuple[Report, Image.Image]:
    """Writes metrics.json and images/confusion.png of a classifier.

    Args:
        figures, confusions: as `recognise` gives them.
        classes: their names.
        run: as in `write_results`.
        folder: of the files.

    Returns:
        The report, and the picture.
    """
    picture = confusion_picture(confusions, classes)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    picture.save(folder / "images" / "confusion.png")
    plain = {name: None if value != value else value for name, value in figures.items()}  # JSON has no NaN
    return write_metrics({**plain, "run": run}, folder), picture


def write_metrics(metrics: dict[str, Any], folder: Path) -> Report:
    """Writes metrics.json."""
    part = folder / "metrics.json.part"
    part.write_text(json.dumps(metrics, indent=2) + "\n")
    part.replace(folder / "metrics.json")  # the last file, and whole: it says that the run is done
    return Report(folder, metrics)


def _write_samples(result: EvaluationResult, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*_*.png"):  # an evaluation that is replaced may have had other images or NFE
        former.unlink()
    for title, images in result.examples.items():
        kind = title.lower().replace(" ", "")
        cropped = center_crop(images, [min(SAMPLE_SIDE, side) for side in images.shape[-2:]])
        # The first rows of the table are about the images in their order, as the examples are.
        for row, image in zip(result.rows, cropped, strict=False):
            pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / f"{row['index']}_{kind}.png")


def describe(config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """What a table needs to know about a run."""
    restores = "model" not in config  # a classifier is evaluated on clean images, whatever it was trained on
    corruption = config.get("corruption") or {} if restores else {}
    return {
        "experiment": config["run"]["experiment"],
        "name": config["run"]["label"],
        **{name: corruption[name] for name in ("strength", "severity") if name in corruption},
        "corruption": config["run"]["corruption"] if restores else None,
        "data": config["run"]["data"],
        "image_size": config["data"]["image_size"],
        **{name: config[name] for name in ("sampler", "model") if name in config},
        "seed": config["seed"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
