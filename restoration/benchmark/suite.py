"""All tables of docs/benchmarks.md, measured in one process."""

import math
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from restoration.benchmark.contenders import Contender, contenders
from restoration.benchmark.levers import levers, operations_of_a_step
from restoration.benchmark.loading import loading
from restoration.benchmark.networks import batches, growth, sampling, training
from restoration.benchmark.page import Figures, read, write
from restoration.benchmark.quality import time_to_quality
from restoration.benchmark.settings import Settings
from restoration.benchmark.trainer import trainer_cost

# By name, in the order of the page.
TABLES: dict[str, Callable[[list[Contender], Settings], Figures]] = {
    "training": training,
    "sampling": sampling,
    "growth": growth,
    "batches": batches,
    "loading": loading,
    "trainer": trainer_cost,
    "levers": levers,
    "operations": operations_of_a_step,
    "quality": lambda rivals, settings: time_to_quality(settings.runs),
}
_ALONE = ("loading", "trainer", "levers", "operations", "quality")  # need no contenders
_PACKAGES = ("torch", "torchvision", "lightning", "torchcfm", "diffusers", "segmentation-models-pytorch")

__all__ = ["TABLES", "Settings", "suite"]


def suite(path: Path, chosen: Sequence[str], settings: Settings) -> str:
    """Measures the chosen tables and writes them to a page and its JSON; the page's other tables stay.

    Returns:
        The chosen tables in Markdown.

    Raises:
        ArithmeticError: a figure is not finite.
    """
    tables = read(path)
    rivals: list[Contender] = []
    if set(chosen) - set(_ALONE):
        rivals = contenders(settings.device, settings.precision, settings.overrides)
    facts = environment(settings)
    for name in TABLES:
        if name not in chosen:
            continue
        tables[name] = TABLES[name](rivals, settings)
        if name != "quality":
            tables[name].text += f" Rounds: {settings.rounds}; limit: {settings.limit:g} s."
        if not all(math.isfinite(number) for number in tables[name].numbers()):
            raise ArithmeticError(f"a figure of the table {name!r} is not finite: {tables[name].rows}")
        # After each, so that an interruption keeps what was measured.
        write(path, introduction(facts), facts, {name: tables[name] for name in TABLES if name in tables})
    return "\n\n".join(tables[name].markdown() for name in TABLES if name in chosen)


def environment(settings: Settings) -> dict[str, Any]:
    """What the figures depend on."""
    name = torch.cuda.get_device_name() if settings.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": f"{settings.device} ({name})",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "precision": settings.precision,
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def introduction(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return f"""# Benchmarks

Written by `make benchmark`; the figures are in [benchmarks.json](benchmarks.json) too. {facts["device"]}, threads:
{facts["threads"]}, precision {facts["precision"]}, load {facts["load"]} on {facts["cores"]} cores at the start.
Python {facts["python"]}; {versions}. Tables may also be those of an earlier run.

- Images are random, weights too: only time is measured. All contenders are built first and take turns; a figure is the
  median of the rounds that its table names, after one that does not count. A call that takes longer than half of the
  limit is timed once, in its first round. On one CPU thread, the time is that of the process, not of the clock
  on the wall.
- Ratios are of times, to the first row, `resnet34_unet`: 2 takes twice as long. Its second row shows the noise.
- ≈ marks what is computed from a smaller measurement, because a call would take longer than the limit, and – what was
  not measured for that reason. A ratio of a figure with ≈ to one without compares two
  sizes of batch, too.
- Networks of other packages (`pip install 'restoration[benchmark]'`) take x_t beside the degraded image: torchcfm's
  `UNetModel` as in its CIFAR-10 example, diffusers' `UNet2DModel` of about our number of parameters. `Unet(resnet34)`
  of segmentation_models_pytorch sees the degraded image only: it has no input for the time, so it is a regression, not
  a flow."""
