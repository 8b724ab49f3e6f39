"""Image grids of the same validation images at every validation."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import NFE, Count, whole_number
from restoration.keyed import fold
from restoration.metrics.pictures import picture_grid

log = logging.getLogger(__name__)


class ImageGrid(Callback):
    """Saves degraded | restored at each NFE | clean as `images/step_000123.png`, and sends it to Weights & Biases.

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
        self._seen = 0
        self._warned = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._columns, self._seen = {}, 0

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
        left = self.images - self._seen
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
        self._seen += len(degraded)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._columns:
            return
        picture = picture_grid({title: torch.cat(images) for title, images in self._columns.items()})
        folder = Path(trainer.default_root_dir) / "images"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"step_{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._send(logger, picture, trainer.global_step)

    def _send(self, logger: WandbLogger, picture: Image.Image, step: int) -> None:
        try:
            logger.log_image(key="val/images", images=[picture], step=step)
        except Exception as error:  # a lost W&B service raises one of many types, and must not end a training
            if not self._warned:
                log.warning("W&B did not accept the validation grid (%s); the PNG files are complete", error)
                self._warned = True
