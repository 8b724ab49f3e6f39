"""The complete training state, for resume."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after each validation, at the end, and on any interrupt (SIGTERM and Ctrl-C among them).

    As a `Checkpoint` it runs after all other callbacks: on an interrupt during validation the averaged weights have
    been swapped back by then.

    Args:
        dirpath: its folder.
    """

    def __init__(self, dirpath: str | Path) -> None:
        self.path = Path(dirpath) / "last.ckpt"

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step > 0 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path, weights_only=False)

    def _save_at_the_end(self, trainer: Trainer) -> None:
        """Corrects Lightning's counters first, from which a resumed run would skip data or metrics."""
        epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress
        if epochs.completed == epochs.ready:
            # Stopped between two epochs: a full count of batches would be taken for the next epoch's.
            batches.reset_on_run()
        if trainer.validating:
            # An interrupted validation would continue in its middle, or be skipped: it starts again.
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
        # Only during training: an earlier error would write a state that never trained.
        if trainer.state.fn == "fit":
            self._save_at_the_end(trainer)
