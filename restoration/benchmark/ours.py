"""Our backbones: built from the configs, trained for a step, restoring, and the memory they take."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from restoration.batch import Batch
from restoration.benchmark.timing import autocast
from restoration.keyed import fold
from restoration.objective import Objective
from restoration.restorer import GROUPS, Restorer
from restoration.run.command import CONF
from restoration.run.hardware import autocast_dtype

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
        with autocast(device, dtype):
            restorer.restore(degraded, keys, int(task))

    def train() -> None:
        restorer.train()
        for parameters in restorer.backbone.pretrained().values():
            for parameter in parameters:
                parameter.requires_grad_(task == "stage 2")
        index = torch.arange(batch, device=device)
        mask, severity = torch.zeros_like(degraded[:, :1], dtype=torch.bool), torch.zeros(batch, device=device)
        with autocast(device, dtype):
            loss, _ = objective(restorer, Batch(degraded, degraded, mask, severity, index), fold(0, index))
        loss.backward()
        restorer.zero_grad(set_to_none=True)

    return train if task in STAGES else restore


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
