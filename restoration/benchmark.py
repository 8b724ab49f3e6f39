"""How fast backbones restore and train, interleaved in one process, as ratios to the first; and in how much memory.

python -m restoration.benchmark resnet34_unet resnet34_unet_state --nfe 1 8 100
python -m restoration.benchmark resnet34_unet "resnet34_unet backbone.depth=1" --size 64 128 --train --memory
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.keyed import fold
from restoration.objective import Objective
from restoration.restorer import GROUPS, Restorer
from restoration.run.command import CONF, command
from restoration.run.hardware import autocast_dtype, resolve_precision

# What is timed beside restoring: training steps while pretrained parameters are frozen, and of all parameters.
STAGES = ("stage 1", "stage 2")


def build(variant: str, overrides: Sequence[str] = ()) -> tuple[Restorer, Objective]:
    """A restorer of the default config and its objective.

    Args:
        variant: an option of the group `backbone`, then overrides of its own, separated by spaces.
        overrides: of every variant.

    Returns:
        The restorer, with random weights and fixed batch statistics, as pretrained ones are; and the objective.
    """
    backbone, *own = variant.split()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"backbone={backbone}", *overrides, *own])
    groups: dict[str, Any] = {name: OmegaConf.to_container(config[name]) for name in GROUPS}
    restorer = Restorer.build(groups, "checkpoint").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return restorer, instantiate(config.objective)


def work(
    restorer: Restorer, objective: Objective, task: int | str, size: int, batch: int, device: str, precision: str
) -> Callable[[], None]:
    """What is measured, once per call.

    Args:
        restorer: on the device.
        objective: of its training.
        task: evaluations per restored image, or the stage (of `STAGES`) of a training step, without its optimiser.
        size: of the square images, pixels.
        batch: images at a time.
        device: "cpu" or "cuda".
        precision: of the network, as the trainer names it.
    """
    dtype = autocast_dtype(precision)
    degraded, keys = torch.rand(batch, 3, size, size, device=device), torch.arange(batch)

    def restore() -> None:
        restorer.eval()
        with torch.autocast(device, dtype, enabled=dtype is not None):
            restorer.restore(degraded, keys, int(task))

    def train() -> None:
        restorer.train()
        for parameters in restorer.backbone.pretrained().values():
            for parameter in parameters:
                parameter.requires_grad_(task == "stage 2")
        index = torch.arange(batch, device=device)
        mask, severity = torch.zeros_like(degraded[:, :1], dtype=torch.bool), torch.zeros(batch, device=device)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            loss, _ = objective(restorer, Batch(degraded, degraded, mask, severity, index), fold(0, index))
        loss.backward()
        restorer.zero_grad(set_to_none=True)

    return train if task in STAGES else restore


def measure(calls: Sequence[Callable[[], None]], rounds: int, device: str) -> list[list[float]]:
    """Seconds of each call in each round; the calls take turns, and a first round does not count."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, times in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times.append(time.perf_counter() - began)
    return seconds


def memory(variant: str, overrides: Sequence[str], *how: Any) -> float:
    """Bytes per image: what a process's peak memory grows by from a batch to one twice as large, over the batch.

    The weights, gradients and libraries, the same at every batch, drop out. The process is a new one. On a GPU its
    tensors count, on a CPU its resident memory. `how` are the arguments of `work` from `task` on.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_growth, variant, overrides, *how).result()


def _growth(
    variant: str, overrides: Sequence[str], task: int | str, size: int, batch: int, device: str, precision: str
) -> float:
    restorer, objective = build(variant, overrides)
    peaks = []
    for images in (batch, 2 * batch):
        call = work(restorer.to(device), objective, task, size, images, device, precision)
        for _ in range(2):
            call()
        if device == "cuda":
            peaks.append(torch.cuda.max_memory_allocated())
        else:  # not `resource.getrusage`, whose figure starts from the parent's
            peaks.append(1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]))
    return (peaks[1] - peaks[0]) / batch


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m restoration.benchmark", description="How fast backbones restore.")
    parser.add_argument(
        "backbones",
        nargs="+",
        help="options of conf/backbone, each with overrides of its own in the same quotes; ratios are to the first",
    )
    parser.add_argument("--nfe", nargs="+", type=int, default=[1, 8, 100])
    parser.add_argument("--size", nargs="+", type=int, default=[64], help="of the images, pixels")
    parser.add_argument("--batch", type=int, default=16, help="images of the first size; as many pixels for others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", action="store_true", help="also training steps, encoder frozen and unfrozen")
    parser.add_argument("--memory", action="store_true", help="also peak memory per image (on a CPU: Linux only)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, its time not counted")
    parser.add_argument("--config-dir", type=Path, default=CONF, help="a folder with configs of your own")
    options, overrides = parser.parse_known_args(arguments)
    overrides.append(f"hydra.searchpath=[file://{options.config_dir.absolute()}]")
    known = {path.stem for folder in (CONF, options.config_dir) for path in (folder / "backbone").glob("*.yaml")}
    for variant in options.backbones:
        if variant.split()[0] not in known:
            raise UserError(f"no backbone {variant.split()[0]!r}; there are {', '.join(sorted(known))}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = str(resolve_precision("auto", "auto"))
    # The first twice: what its two rows differ by is noise.
    names = [*options.backbones, options.backbones[0]]
    built = [build(name, overrides) for name in names]
    for restorer, _ in built:
        restorer.to(device)
        if options.compile:
            restorer.backbone.compile()
    table = Table(title=f"{device}, {precision}, median of {options.rounds} rounds{', compiled' * options.compile}")
    table.add_column("backbone", overflow="fold")
    for heading in ("pixels", "batch", "NFE", "ms per image", "least", "most", "times the first", "MB per image"):
        if options.memory or heading != "MB per image":
            table.add_column(heading, justify="right", overflow="fold")
    for size in options.size:
        batch = max(1, options.batch * options.size[0] ** 2 // size**2)
        for task in [*options.nfe, *(STAGES if options.train else ())]:
            how: Any = (task, size, batch, device, precision)
            calls = [work(restorer, objective, *how) for restorer, objective in built]
            seconds = measure(calls, options.rounds, device)
            first = statistics.median(seconds[0])
            # The first's two rows share one figure: a process's memory does not depend on the company.
            peaks = {name: memory(name, overrides, *how) for name in options.backbones} if options.memory else {}
            for name, times in zip(names, seconds, strict=True):
                middle = statistics.median(times)
                figures = [f"{1000 * figure / batch:.2f}" for figure in (middle, min(times), max(times))]
                figures.append(f"{middle / first:.2f}")
                if options.memory:
                    figures.append(f"{peaks[name] / 1e6:.0f}")
                table.add_row(name, str(size), str(batch), str(task), *figures)
            table.add_section()
    # A pipe has no width; rich's 80 columns would fold the names.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
