"""The whole state of the training, for resuming."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

__all__ = ["LastCheckpoint"]


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after each validation, at the end, and on any interrupt (SIGTERM and Ctrl-C among them).

    As a `Checkpoint` it runs behind all other callbacks, so the average is in its place when an interrupt comes in
    the middle of validation.

    Args:
        dirpath: where to.
    """

    def __init__(self, dirpath: str | Path) -> None:
        self.path = Path(dirpath) / "last.ckpt"

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step > 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path, weights_only=False)

    def _save_at_the_end(self, trainer: Trainer) -> None:
        """Mends Lightning's counters first, where a run resumed from them would leave out data or figures."""
        epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
        if epochs.completed == epochs.ready:
            # Stopped between two epochs: a full count of batches would pass for the next epoch's.
            batches.reset_on_run()
        if trainer.validating:
            # A validation cut short would be taken up in its middle, or left out: it starts anew.
            validated = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            for counts in (validated.total, validated.current):
                counts.ready, counts.started, counts.processed, counts.completed = 1, 1, 0, 0  # type: ignore[attr-defined]
        self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_at_the_end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # Only while training: an error before it would write a state that never trained.
        if trainer.state.fn == "fit":
            self._save_at_the_end(trainer)
