"""Weights over training, thinned out as the run grows."""

from pathlib import Path
from typing import Annotated

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from restoration.checkpoint_file import use_checkpoint_files
from restoration.errors import Range


class Snapshots(Checkpoint):
    """Writes the averaged weights after each validation as `step_<number>.ckpt`.

    When there are more than `keep` files, every second one is removed, and only every second validation from there on
    leaves a file. So the files stay evenly spread over a run of any length, and a good moment in the middle of a run
    that later drifts is not lost. `evaluate` takes each of them.

    Args:
        dirpath: their folder.
        keep: the largest number of files.
    """

    def __init__(self, dirpath: str | Path, keep: Annotated[int, Range(2, 1000)] = 16) -> None:
        self.folder = Path(dirpath)
        self.keep = keep
        self._count = 0  # validations of the run
        self._stride = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        use_checkpoint_files(trainer)

    def state_dict(self) -> dict[str, int]:
        return {"count": self._count, "stride": self._stride}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._count, self._stride = state_dict["count"], state_dict["stride"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._count += 1
        if self._count % self._stride:
            return
        trainer.save_checkpoint(self.folder / f"step_{trainer.global_step:07}.ckpt", weights_only=True)
        files = sorted(self.folder.glob("step_*.ckpt"))
        if len(files) > self.keep:
            self._stride *= 2
            for file in files[::2] if trainer.is_global_zero else []:  # odd multiples of the former stride
                file.unlink()
