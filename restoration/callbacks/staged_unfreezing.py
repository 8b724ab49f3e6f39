"""Two stages: new parameters on a frozen pretrained encoder at a high learning rate, then all at a low one."""

import logging
import math
from typing import Annotated, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from restoration.errors import Count, NotNegative, Positive, Range, Share, UserError

log = logging.getLogger(__name__)


class StagedUnfreezing(Callback):
    """Ends stage 1 at a share of the run, at an epoch, or when the validation metric has reached a plateau.

    All parameter groups are in the optimiser from the start (`Restorer.parameter_groups`); a group without gradients
    is skipped, weight decay included. Stage 2 restarts the schedule with its own peak learning rates, and resets early
    stopping. The stage is logged as `train/stage`; it is part of the checkpoint and is applied again on resume. A
    restorer without pretrained parameters has a single stage.

    Args:
        learning_rates: peaks in stage 2 by group name; every group needs one.
        share: of the run that stage 1 takes, or None.
        epoch: at which stage 2 starts, or None.
        patience: validations without improvement after which stage 2 starts, or None.
        monitor: the validation metric, larger is better.
        min_delta: the least improvement that counts.

    Raises:
        UserError: no rule that could end stage 1; a learning rate that is missing or not a number above 0; a metric
            that is not logged.
    """

    def __init__(
        self,
        learning_rates: dict[str, Positive],
        share: Share | None = None,
        epoch: Annotated[int, Range(0)] | None = None,
        patience: Count | None = None,
        monitor: str = "val/psnr",
        min_delta: NotNegative = 0.02,
    ) -> None:
        if share is None and epoch is None and patience is None:
            raise UserError("callbacks.staged_unfreezing: give share, epoch or patience, or stage 1 would never end")
        for name, rate in learning_rates.items():
            # Stage 2 would fail after most of the run.
            number = isinstance(rate, int | float) and not isinstance(rate, bool)
            if not number or not 0 < rate < math.inf:
                raise UserError(f"callbacks.staged_unfreezing.learning_rates.{name}={rate} must be a number above 0")
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

    @staticmethod
    def _pretrained(pl_module: Any) -> list[Any]:
        groups = pl_module.restorer.backbone.pretrained()
        return [parameter for parameters in groups.values() for parameter in parameters]

    def _freeze(self, pl_module: LightningModule) -> None:
        """Sets requires_grad for the stage; batch statistics are the encoder's own concern."""
        for parameter in self._pretrained(pl_module):
            parameter.requires_grad_(self.stage == 2)
        count = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        log.info("stage %d: %s parameters train", self.stage, f"{count:,}")

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # Not sooner: on resume the stage is known only now.
        self.active = bool(self._pretrained(pl_module))
        if not self.active:
            log.info("no pretrained parameters: everything trains from the start, in one stage")
            return
        names = {group["name"] for group in pl_module.scheduled_groups()}
        if missing := names - set(self.learning_rates):
            raise UserError(f"callbacks.staged_unfreezing.learning_rates lacks {sorted(missing)}")
        self._freeze(pl_module)

    def _planned_end(self, trainer: Trainer, clock: Any) -> int | None:
        """Images seen at the end of stage 1, if it is known beforehand."""
        ends = []
        if self.share is not None:
            ends.append(round(self.share * (clock.total // clock.per_step)))
        if self.epoch is not None:
            ends.append(self.epoch * -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches))
        return min(ends) * clock.per_step if ends else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.patience is None or self.stage == 2:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise UserError(f"callbacks.staged_unfreezing.monitor={self.monitor!r} is not logged; logged are {known}")
        value = float(trainer.callback_metrics[self.monitor])
        if value > self.best + self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.active:
            return
        if self.stage == 1:
            self._advance(trainer, pl_module, batch)
        pl_module.log("train/stage", float(self.stage))

    def _advance(self, trainer: Trainer, pl_module: Any, batch: Any) -> None:
        """Ends stage 1 if it is over; else tells the schedule where it will end."""
        clock = pl_module.clock(batch)
        end = self._planned_end(trainer, clock)
        plateau = self.patience is not None and self.bad >= self.patience
        if plateau or (end is not None and clock.seen >= end):
            self._switch(trainer, pl_module, clock.seen)
        elif end is not None:
            for group in pl_module.scheduled_groups():
                group["end_images"] = end

    def _switch(self, trainer: Trainer, pl_module: Any, seen: int) -> None:
        self.stage = 2
        for group in pl_module.scheduled_groups():
            group |= {"peak_lr": self.learning_rates[group["name"]], "start_images": seen, "end_images": None}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.wait_count = 0
        log.info("stage 2 after %s images, learning rates %s", f"{seen:,}", self.learning_rates)
        self._freeze(pl_module)
