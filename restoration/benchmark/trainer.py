"""What the Trainer costs per step, against a bare loop on the same batches."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from restoration.benchmark.contenders import Contender
from restoration.benchmark.page import Figures
from restoration.benchmark.settings import Settings
from restoration.benchmark.timing import autocast
from restoration.restorer import Restorer
from restoration.run.command import CONF
from restoration.run.hardware import autocast_dtype
from restoration.run.job import make_callbacks, make_trainer
from restoration.training.module import RestorationModule

_DEMO = ["experiment=demo", "data.train_images=512", "data.selection_images=8", "data.test_images=8", "logger.csv=null"]
_QUIET = ["callbacks.progress_bar=null", "+trainer.enable_progress_bar=false", "+trainer.limit_val_batches=0"]


class Laps(Callback):
    """The time at the end of every step."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(now(self.device))


def now(device: str) -> float:
    """Seconds: of the process, or on the wall once a GPU has ended its work."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def trainer_cost(_: list[Contender], settings: Settings) -> Figures:
    """Milliseconds of a step of `experiment=demo`, in turns."""
    batch, steps, rounds = (8, 3, 1) if settings.smoke else (16, 20, settings.rounds)
    shares: list[float] = []
    found: dict[str, list[float]] = {"bare loop": [], "Trainer without callbacks": [], "Trainer, default callbacks": []}
    with tempfile.TemporaryDirectory() as folder:
        given = [f"folder={folder}", "name=benchmark", f"data.batch_size={batch}", f"trainer.max_steps={steps}"]
        given += [f"trainer.precision={settings.precision}", "trainer.val_check_interval=1000000"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("train", [*_DEMO, *_QUIET, *given])
        config: Any = OmegaConf.to_container(composed, resolve=True)
        data = instantiate(composed.data, corruption=instantiate(composed.corruption))
        data.setup()
        for _round in range(rounds):
            for name, callbacks in (
                ("Trainer without callbacks", []),
                ("Trainer, default callbacks", make_callbacks(config)),
            ):
                laps = Laps(settings.device)
                trainer = make_trainer(config, data, [*callbacks, laps])
                trainer.fit(_module(config), datamodule=data)
                found[name] += _differences(laps.times)
            bare = list(_bare(_module(config), data, steps, settings))
            found["bare loop"] += _differences([end for _, end in bare])
            shares.append(_waiting(bare))
    figures = Figures(
        "The Trainer",
        f"Milliseconds per step of `experiment=demo` with batches of {batch}, data and optimiser included, validation "
        "and checkpoints not; time of the process. The bare loop degrades the same batches, clips the gradient and "
        "steps AdamW; it keeps no average of the weights, logs nothing and checks nothing. It spends "
        f"{statistics.median(shares):.1%} of its time on reading and degrading the batches.",
    )
    first = statistics.median(found["bare loop"])
    for name, times in found.items():
        middle = statistics.median(times)
        figures.rows.append({"loop": name, "ms": 1000 * middle, "more than bare, ms": 1000 * (middle - first)})
    return figures


def _module(config: dict[str, Any]) -> RestorationModule:
    objective, optimizer, schedule = (instantiate(config[name]) for name in ("objective", "optimizer", "schedule"))
    return RestorationModule(Restorer.build(config), objective, optimizer, schedule, config)


def _differences(times: list[float]) -> list[float]:
    return [after - before for before, after in zip(times[1:], times[2:], strict=False)]


def _waiting(steps: list[tuple[float, float]]) -> float:
    """The share of the time before a batch was ready, of steps (ready, end); the first two do not count."""
    waited = sum(ready - end for (_, end), (ready, _) in zip(steps[1:], steps[2:], strict=False))
    return waited / (steps[-1][1] - steps[1][1])


def _bare(module: RestorationModule, data: Any, steps: int, settings: Settings) -> Iterator[tuple[float, float]]:
    """When each batch is ready and its step has ended; `data` has been with a Trainer, which tells it the epoch."""
    device, dtype = settings.device, autocast_dtype(settings.precision)
    parameters = list(module.to(device).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    module.train()
    for _, rows in zip(range(steps), data.train_dataloader(), strict=False):
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in rows.items()}
        batch = data.on_after_batch_transfer(moved, 0)
        ready = now(device)
        with autocast(device, dtype):
            loss, _terms = module.terms(batch, batch.index)
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield ready, now(device)
