"""The thin shell that Lightning trains: optimise, log, delegate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import Optimizer

from restoration.batch import Batch
from restoration.keyed import fold
from restoration.objective import Objective
from restoration.restorer import Restorer
from restoration.training.schedule import Schedule

__all__ = ["RestorationModule"]


class RestorationModule(LightningModule):
    """Trains a restorer.

    Every parameter group carries its own `peak_lr`, `start_step` and `end_step`; the schedule runs between them.
    They are part of the optimiser's state, so a resumed run goes on with them.

    Args:
        restorer: what is trained.
        objective: what is minimised.
        optimizer: makes the optimiser from parameter groups.
        schedule: the learning rate's course.
        config: plain containers, written into every checkpoint so that it rebuilds itself.
        seed: keys the draws of noise and time.
        compile: compiles the backbone in place; checkpoint keys stay as they are.
    """

    def __init__(
        self,
        restorer: Restorer,
        objective: Objective,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Schedule,
        config: dict[str, Any],
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.restorer = restorer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.config = config
        self.seed = seed
        if compile:
            restorer.backbone.compile()

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.optimizer(
            {"params": parameters, "name": name, "start_step": 0, "end_step": None}
            for name, parameters in self.restorer.backbone.stages().items()
            if parameters
        )
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_train_start(self) -> None:
        # Not sooner: to count the steps of whole epochs, Lightning makes the training loader, which in
        # `configure_optimizers` would not know yet that a resumed run goes on in mid-epoch.
        for group in self.trainer.optimizers[0].param_groups:
            if group["end_step"] is None:
                group["end_step"] = int(self.trainer.estimated_stepping_batches)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            step = self.global_step - group["start_step"]
            group["lr"] = group["peak_lr"] * self.schedule(step, max(1, group["end_step"] - group["start_step"]))
            trains = group["params"][0].requires_grad
            self.log(f"lr/{group['name']}", group["lr"] if trains else 0.0)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        keys = fold(self.seed, "objective", self.current_epoch, batch.index)
        loss, terms = self.objective(self.restorer, batch, keys)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(batch))
        # The terms too, for the guard that names the one which is not finite.
        return {"loss": loss, **terms}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        keys = fold(0, "validation", batch.index)
        loss, terms = self.objective(self.restorer, batch, keys)
        self.log("val/loss", loss, batch_size=len(batch))
        self.log_dict({f"val/{name}": value for name, value in terms.items()}, batch_size=len(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        if "optimizer_states" in checkpoint:
            return
        # Lightning leaves callbacks out of a checkpoint that holds weights only, and so would write the raw weights.
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_save_checkpoint(self.trainer, self, checkpoint)
        for name in ("current_model_state", "averaging_state"):
            checkpoint.pop(name, None)
