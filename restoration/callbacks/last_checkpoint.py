"""The complete training state, for resume."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from restoration.checkpoint_file import use_checkpoint_files
from restoration.errors import NotNegative, UserError


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after each validation, every few minutes, at the end, and on an interrupt (SIGTERM, Ctrl-C).

    The file before it becomes `previous.ckpt`, from which a run resumes if `last.ckpt` is damaged. A state is only
    written between two optimiser steps, so a resumed run repeats the steps exactly.

    As a `Checkpoint` it runs after all other callbacks: on an interrupt during validation the averaged weights have
    been swapped back by then.

    Args:
        dirpath: its folder.
        every_n_minutes: the longest time between two files, at least 0; None writes after validations only.

    Raises:
        UserError: every_n_minutes is not a number from 0 up; in training, the file cannot be written.
    """

    def __init__(self, dirpath: str | Path, every_n_minutes: NotNegative | None = 10.0) -> None:
        number = isinstance(every_n_minutes, int | float) and not isinstance(every_n_minutes, bool)
        if every_n_minutes is not None and not (number and every_n_minutes >= 0):
            raise UserError(f"callbacks.last.every_n_minutes={every_n_minutes} must be a number from 0 up, or null")
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_minutes = every_n_minutes
        self._owed = False  # a validation came in the middle of an accumulation
        self._started = self._stepping = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        use_checkpoint_files(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = True
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step > 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for logger in trainer.loggers:
                logger.save()  # after a power cut, rows of before this checkpoint would never come again
            # A second file of one step, as at the end after a validation, is the same generation.
            former = None if trainer.global_step == self._saved_step else self.path.with_name("previous.ckpt")
            trainer.save_checkpoint(self.path, weights_only=False, storage_options={"previous": former})
        self._saved_at, self._saved_step, self._owed = time.monotonic(), trainer.global_step, False

    @staticmethod
    def _accumulated(trainer: Trainer) -> int:
        """Batches of an optimiser step that is not complete. Their gradients are in no checkpoint."""
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        return batches.processed % trainer.accumulate_grad_batches

    def _save_at_the_end(self, trainer: Trainer) -> None:
        """Corrects Lightning's counters first, from which a resumed run would skip data or metrics."""
        epochs = trainer.fit_loop.epoch_progress.current
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress
        if epochs.completed == epochs.ready:
            # Stopped between two epochs: a full count of batches would be taken for the next epoch's.
            batches.reset_on_run()
        elif (accumulated := self._accumulated(trainer)) > 0:
            # These batches are trained again.
            for counts in (batches.total, batches.current):
                kept = counts.processed - accumulated
                counts.ready, counts.started, counts.processed, counts.completed = kept, kept, kept, kept
            batches.is_last_batch = False
        if trainer.validating:
            # An interrupted validation would continue in its middle, or be skipped: it starts again.
            validated = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            for counts in (validated.total, validated.current):
                counts.ready, counts.started, counts.processed, counts.completed = 1, 1, 0, 0  # type: ignore[attr-defined]
        self._save(trainer)

    def _save_before_batch(self, trainer: Trainer) -> None:
        """Saves with the counters as they were before the batch was fetched: validations go by them."""
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress
        former = batches.total.ready, batches.current.ready, batches.is_last_batch
        batches.total.ready, batches.current.ready = batches.total.completed, batches.current.completed
        batches.is_last_batch = False
        self._save(trainer)
        batches.total.ready, batches.current.ready, batches.is_last_batch = former

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._owed = bool(self._accumulated(trainer))
        if not self._owed:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Here the counters of the step before are complete; at its own end they are not.
        if batch_idx == 0 or self._accumulated(trainer) or self._saved_step == trainer.global_step:
            return
        due = self._owed
        if self.every_n_minutes is not None and (trainer.world_size == 1 or trainer.global_step % 25 < 2):
            late = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
            due = trainer.strategy.reduce_boolean_decision(late, all=False) or due  # clocks of ranks differ
        if due:
            self._save_before_batch(trainer)

    def on_before_optimizer_step(self, *_: Any) -> None:
        self._stepping = True

    def on_train_batch_end(self, *_: Any) -> None:
        self._stepping = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_at_the_end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # Only during training: an earlier error would write a state that is not complete. Within an optimiser step the
        # weights may be half updated, and after a message to the user nothing is to be kept: the last file stays.
        # Several ranks write together, so all of them must be here: they are when they stop by a signal.
        whole = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        if self._started and whole and not self._stepping and not isinstance(exception, UserError):
            self._save_at_the_end(trainer)
