"""The exponential moving average of the weights."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["EMA"]


class EMA(WeightAveraging):
    """An average whose horizon is a share of the steps so far (a power-function EMA; Karras et al. 2024, "EDM2").

    Validation, checkpoints and everything made from them use the averaged weights; training goes on with its own.

    Args:
        horizon: the share of the steps so far that the average looks back on, in (0, 1].
    """

    def __init__(self, horizon: float = 0.1) -> None:
        if not 0 < horizon <= 1:
            raise ValueError(f"callbacks.ema.horizon={horizon}: a share in (0, 1] is needed")
        self.horizon = horizon
        # Buffers are copied: an average would round the integer ones.
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self._swapped = False

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], updates: int | Tensor) -> None:
        weight = 1 / (self.horizon * float(updates) + 1)
        torch._foreach_lerp_(averaged, current, weight)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # An interrupt in the middle of validation: the checkpoint that follows must not hold the two exchanged.
        if self._swapped:
            self._swap_models(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep both: the last checkpoint is written after this, and its raw weights are what a longer run resumes."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "latest_update_epoch": self._latest_update_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._latest_update_epoch = state_dict["latest_update_epoch"]
