"""A training that ran out of memory: which batch size would fit."""

import gc
import traceback
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.training.module import TrainingModule

_MEASURED = ("cuda",)


def out_of_memory(error: Exception, trainer: Trainer, module: TrainingModule, data: RestorationDataModule) -> UserError:
    """What to say. On a GPU the batch size is halved until two steps of it succeed, with all parameters trained.

    On a CPU the half is proposed: there a failed step does not return its memory reliably. The module must not be used
    again, because its weights change.
    """
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    traceback.clear_frames(error.__traceback__)  # they keep the tensors of the step
    if any(file.endswith("evaluation_loop.py") for file in files):
        return UserError(f"out of memory in validation: make data.eval_batch_size={data.eval_batch_size} smaller")
    given, accumulated = data.batch_size, trainer.accumulate_grad_batches
    size = given // 2
    measured = trainer.world_size == 1 and trainer.strategy.root_device.type in _MEASURED
    while measured and size and not _fits(size, trainer, module, data):
        size //= 2
    if not size:
        return UserError(
            f"out of memory at data.batch_size={given}, and at every smaller one: make data.image_size or the backbone "
            "smaller, or try trainer.precision=bf16-mixed"
        )
    word = "fits" if measured else "may fit"
    return UserError(
        f"out of memory at data.batch_size={given}: {size} {word}. Start a new run with data.batch_size={size} "
        f"trainer.accumulate_grad_batches={accumulated * -(-given // size)}, which keeps the images of a step"
    )


def _fits(size: int, trainer: Trainer, module: TrainingModule, data: RestorationDataModule) -> bool:
    """Whether two optimiser steps of so many images succeed. The second one has the optimiser's state beside it."""
    device = trainer.strategy.root_device
    module.to(device).requires_grad_(True).zero_grad()
    try:
        few = next(iter(data.batches("selection", device)))
        rows = torch.arange(size, device=device) % len(few)
        parts: dict[str, Any] = {name: value[rows] for name, value in vars(few).items() if isinstance(value, Tensor)}
        batch = replace(few, kind=None, **parts)
        optimizer = module.configure_optimizers()
        for _ in range(2):
            with trainer.precision_plugin.forward_context():
                loss, _ = module.terms(batch, batch.index)
            loss.backward()
            optimizer.step()
    except Exception as error:  # batch normalisation, for one, needs two values
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        module.zero_grad()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True
