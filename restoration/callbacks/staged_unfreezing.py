"""Two stages: the decoder on a frozen encoder at a high learning rate, then all of it at a low one."""

import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

__all__ = ["StagedUnfreezing"]

log = logging.getLogger(__name__)


class StagedUnfreezing(Callback):
    """Ends stage 1 at a share of the steps, at an epoch, or when the validation metric has reached a plateau.

    The parameter groups stand in the optimiser from the start (`Backbone.stages`); a group without gradients is
    skipped, weight decay included. Stage 2 starts the schedule anew with its own peaks, and restarts early stopping.
    The stage is part of the checkpoint and is applied again on resuming.

    Args:
        learning_rates: peaks in stage 2 by group name; every group of the optimiser needs one.
        share: of all steps that stage 1 takes, or None.
        epoch: at which stage 2 starts, or None.
        patience: validations without improvement after which stage 2 starts, or None.
        monitor: the validation metric, larger is better.
        min_delta: what counts as an improvement.

    Raises:
        ValueError: no rule given that could end stage 1.
    """

    def __init__(
        self,
        learning_rates: dict[str, float],
        share: float | None = None,
        epoch: int | None = None,
        patience: int | None = None,
        monitor: str = "val/psnr_nfe1",
        min_delta: float = 0.02,
    ) -> None:
        if share is None and epoch is None and patience is None:
            raise ValueError("callbacks.staged_unfreezing: give share, epoch or patience, or stage 1 would never end")
        self.learning_rates = dict(learning_rates)
        self.share = share
        self.epoch = epoch
        self.patience = patience
        self.monitor = monitor
        self.min_delta = min_delta
        self.stage = 1
        self.best = float("-inf")
        self.bad = 0

    def state_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "best": self.best, "bad": self.bad}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stage, self.best, self.bad = (state_dict[name] for name in ("stage", "best", "bad"))

    def _freeze(self, pl_module: LightningModule) -> None:
        """requires_grad as the stage wants it; batch statistics are the encoder's own concern."""
        groups: dict[str, list[Any]] = pl_module.restorer.backbone.stages()  # type: ignore[union-attr, operator]
        for name, parameters in groups.items():
            for parameter in parameters:
                parameter.requires_grad_(name == "decoder" or self.stage == 2)
        count = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        log.info("stage %d: %s parameters train", self.stage, f"{count:,}")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = {group["name"] for group in trainer.optimizers[0].param_groups}
        if missing := names - set(self.learning_rates):
            raise ValueError(f"callbacks.staged_unfreezing.learning_rates lacks {sorted(missing)}")
        self._freeze(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # On resuming, the stage is known only now; and so is always the length of an epoch.
        self._freeze(pl_module)
        if self.stage == 1 and (end := self._planned_end(trainer)) is not None:
            for group in trainer.optimizers[0].param_groups:
                group["end_step"] = end

    def _planned_end(self, trainer: Trainer) -> int | None:
        """The step at which stage 1 ends, as far as it is known beforehand."""
        total = int(trainer.estimated_stepping_batches)
        ends = []
        if self.share is not None:
            ends.append(round(self.share * total))
        if self.epoch is not None:
            ends.append(self.epoch * -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches))
        return min(ends, default=None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.patience is None or self.stage == 2:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"callbacks.staged_unfreezing.monitor={self.monitor!r} is not logged; logged are {known}")
        value = float(trainer.callback_metrics[self.monitor])
        if value > self.best + self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.stage == 1:
            end = self._planned_end(trainer)
            plateau = self.patience is not None and self.bad >= self.patience
            if plateau or (end is not None and trainer.global_step >= end):
                self._switch(trainer, pl_module)

    def _switch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stage = 2
        for group in trainer.optimizers[0].param_groups:
            group["peak_lr"] = self.learning_rates[group["name"]]
            group["start_step"] = trainer.global_step
            group["end_step"] = int(trainer.estimated_stepping_batches)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.wait_count = 0
        log.info("stage 2 from step %d, learning rates %s", trainer.global_step, self.learning_rates)
        self._freeze(pl_module)
