"""The progress of a run, in optimiser steps."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class StepBar(RichProgressBar):
    """Lightning's `RichProgressBar` over the whole run: steps of steps, and the epoch. Validation has its own bar.

    A run without a number of steps shows the batches of each epoch, as Lightning does.
    """

    @property
    def total_train_batches(self) -> int | float:
        return self.trainer.max_steps if self._by_steps else super().total_train_batches

    @property
    def _by_steps(self) -> bool:
        return self.trainer.max_steps is not None and self.trainer.max_steps >= 0

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}"

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        if self._by_steps and progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
            current = self.trainer.global_step
        super()._update(progress_bar_id, current, visible, hard)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._update(self.train_progress_bar_id, 0)
