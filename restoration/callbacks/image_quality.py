"""PSNR, SSIM and a Fréchet distance of the validation images."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import NFE, UserError
from restoration.keyed import fold
from restoration.metrics.frechet import FeatureStatistics, FrechetDistance, frechet_distance
from restoration.metrics.image import measure, psnr

FIGURES = ("psnr", "ssim", "psnr_hole", "psnr_known")


class ImageQuality(Callback):
    """Restores every validation batch at each NFE and logs the means over images.

    Logs `val/psnr_nfe{k}`, `val/ssim_nfe{k}`, `val/psnr_hole_nfe{k}`, `val/psnr_known_nfe{k}` (the last two over
    images with a hole, left out if there are none), `val/frechet_nfe{k}` and `val/psnr_identity`. Checkpoints, stages
    and early stopping watch `val/psnr`, that of the first NFE, and `val/frechet`, that of the last. The network runs
    in the trainer's precision, with the averaged weights if there are any; the metrics are float32. The sampling noise
    depends on the image only, so that epochs and runs share it.

    Args:
        nfe: network evaluations per image.
        frechet: the distance; None leaves it out. `train` sets it to the encoder's own.

    Raises:
        UserError: nfe is not a list of whole numbers from 1 up.
    """

    def __init__(self, nfe: Sequence[NFE] = (1, 8), frechet: FrechetDistance | None = None) -> None:
        self.nfe = [int(steps) for steps in nfe]
        if not self.nfe or min(self.nfe) < 1:
            raise UserError(f"callbacks.image_quality.nfe={list(nfe)}: give whole numbers from 1 up, such as [1,8]")
        self.frechet = frechet
        # The clean images are the same in every epoch, and so are their features.
        self._clean_features: dict[tuple[int, ...], Tensor] = {}
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._clean = FeatureStatistics()
        self._restored = {nfe: FeatureStatistics() for nfe in self.nfe}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._reset()

    def _add(self, name: str, values: Tensor) -> None:
        """Adds (sum, count) of a metric over a batch.

        Only the metric of a region may be missing for an image; other NaN come from the restorer and must be logged.
        """
        if "hole" in name or "known" in name:
            values = values[~values.isnan()]
        pair = torch.tensor([float(values.double().sum()), float(len(values))], dtype=torch.float64)
        self._sums[name] = self._sums.get(name, torch.zeros(2, dtype=torch.float64)) + pair

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
        self._add("val/psnr_identity", psnr(batch.degraded, batch.clean))
        if self.frechet is not None:
            images = tuple(batch.index.tolist())
            if images not in self._clean_features:
                self._clean_features[images] = self.frechet.features(batch.clean).cpu()
            self._clean.update(self._clean_features[images])
        keys = fold(0, "sampling", 0, batch.index)
        restorer: Any = pl_module.restorer
        for nfe in self.nfe:
            with trainer.precision_plugin.val_step_context():
                restored = restorer.restore(batch.degraded, keys, nfe).images
            figures = measure(restored, batch.clean, batch.mask)
            for name in FIGURES:
                self._add(f"val/{name}_nfe{nfe}", figures[name])
            if self.frechet is not None:
                self._restored[nfe].update(self.frechet.features(restored))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, pair in self._sums.items():
            total, count = self._over_ranks(trainer, pl_module, pair).tolist()
            if count:
                pl_module.log(name, total / count)
            if name == f"val/psnr_nfe{self.nfe[0]}":
                pl_module.log("val/psnr", total / count, prog_bar=True)
        if self.frechet is None:
            return
        for statistics in (self._clean, *self._restored.values()):
            statistics.count = int(self._over_ranks(trainer, pl_module, torch.tensor(float(statistics.count))))
            statistics.total = self._over_ranks(trainer, pl_module, statistics.total)
            statistics.outer = self._over_ranks(trainer, pl_module, statistics.outer)
        if self._clean.count > 1:
            for nfe, statistics in self._restored.items():
                distance = frechet_distance(statistics, self._clean)
                pl_module.log(f"val/frechet_nfe{nfe}", distance)
            pl_module.log("val/frechet", distance)

    @staticmethod
    def _over_ranks(trainer: Trainer, pl_module: LightningModule, value: Tensor) -> Tensor:
        """The sum over processes, on the CPU."""
        if trainer.world_size == 1:
            return value
        total = trainer.strategy.reduce(value.to(pl_module.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.cpu()
