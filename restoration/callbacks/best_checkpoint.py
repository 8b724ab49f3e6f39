"""The best weights by a validation metric."""

from pathlib import Path
from typing import Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from restoration.checkpoint_file import use_checkpoint_files
from restoration.errors import UserError


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` of the weights alone; it saves nothing in a run that does not log the metric.

    Args:
        dirpath: folder of the checkpoint.
        filename: without its suffix.
        monitor: the metric.
        mode: "max" or "min".
    """

    def __init__(self, dirpath: str | Path, filename: str, monitor: str, mode: Literal["min", "max"]) -> None:
        if Path(filename).name != filename:
            raise UserError(f"filename={filename} of a checkpoint must not name another folder; set dirpath")
        super().__init__(dirpath, filename, monitor, mode=mode, save_weights_only=True, enable_version_counter=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        use_checkpoint_files(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)
