"""The same validation images at every validation: as a grid in the run folder, and one by one in Weights & Biases."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import wandb
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import NFE, Count, whole_number
from restoration.keyed import fold
from restoration.metrics.pictures import enlarged, picture_grid

log = logging.getLogger(__name__)


class ImageGrid(Callback):
    """Saves degraded | restored at each NFE | clean as `images/step_000123.png`; W&B gets `val/sample_1` and so on.

    It takes the first validation images, with the same sampling noise each time, so that successive grids differ in
    the weights only.

    Args:
        images: how many.
        nfe: network evaluations; one column each.

    Raises:
        UserError: images is not a whole number from 1 up.
    """

    def __init__(self, images: Count = 8, nfe: Sequence[NFE] = (1, 8)) -> None:
        self.images = whole_number("callbacks.image_grid.images", images, 1)
        self.nfe = [int(steps) for steps in nfe]
        self._columns: dict[str, list[Tensor]] = {}
        self._index: list[int] = []
        self._warned = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._columns, self._index = {}, []

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        left = self.images - len(self._index)
        if trainer.sanity_checking or left <= 0 or not trainer.is_global_zero:
            return
        degraded = batch.degraded[:left]
        keys = fold(0, "sampling", 0, batch.index[:left])
        restorer: Any = pl_module.restorer
        columns = {"degraded": degraded}
        with trainer.precision_plugin.val_step_context():
            columns |= {f"NFE {nfe}": restorer.restore(degraded, keys, nfe).images for nfe in self.nfe}
        columns["clean"] = batch.clean[:left]
        for title, images in columns.items():
            self._columns.setdefault(title, []).append(images.float().cpu())
        self._index += batch.index[:left].tolist()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._columns:
            return
        columns = {title: torch.cat(images) for title, images in self._columns.items()}
        folder = Path(trainer.default_root_dir) / "images"
        folder.mkdir(parents=True, exist_ok=True)
        picture_grid(columns).save(folder / f"step_{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._send(logger, columns, trainer.global_step)

    def _send(self, logger: WandbLogger, columns: Mapping[str, Tensor], step: int) -> None:
        try:
            log_samples(logger, "val", columns, self._index, step)
        except Exception as error:  # a lost W&B service raises one of many types, and must not end a training
            if not self._warned:
                log.warning("W&B did not accept the validation images (%s); the PNG files are complete", error)
                self._warned = True


def log_samples(
    logger: WandbLogger, stage: str, columns: Mapping[str, Tensor], index: Sequence[int], step: int
) -> None:
    """Sends each image to W&B under a key of its own: `<stage>/sample_1` holds the first one's kinds, in their order.

    A key is the place of an image in its set, not its index, so that it is the same in runs on any data; W&B's media
    panels then show one image from several runs side by side. All keys are in one row of the history, of one step.

    Args:
        columns: title -> (N, 3, H, W) in [0, 1]; small images are enlarged.
        index: of the N images, for the captions.
    """
    media = {
        f"{stage}/sample_{place + 1}": [
            wandb.Image(enlarged(images[place]), caption=f"{title}, image {number}")
            for title, images in columns.items()
        ]
        for place, number in enumerate(index)
    }
    logger.log_metrics(media, step)  # type: ignore[arg-type]
