"""The grid of validation images: the same images each time, in the run folder; a failure to send it is not fatal."""

import logging

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from restoration.batch import Batch
from restoration.callbacks.image_grid import ImageGrid
from restoration.restorer import Restored


class Restorer(nn.Module):
    def restore(self, degraded, keys, nfe=None):
        return Restored(degraded + 0.1 * nfe, torch.zeros(len(degraded)))


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.restorer = Restorer()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batch(level: float) -> Batch:
    images = torch.full((3, 3, 32, 32), level)
    mask = torch.zeros(3, 1, 32, 32, dtype=torch.bool)
    return Batch(images + 0.5, images, mask, torch.ones(3), torch.arange(3))


def loader(*made: Batch) -> DataLoader:
    return DataLoader(list(made), batch_size=None)


def fit(tmp_path, callback, logger=False) -> None:
    pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[callback], logger=logger, max_epochs=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Module(), loader(batch(0.1), batch(0.1), batch(0.1)), loader(batch(0.0), batch(0.2)))  # fmt: skip


def test_the_pictures_hold_the_first_images(tmp_path):
    fit(tmp_path, ImageGrid(images=4, nfe=(1, 2)))
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["step_000003.png", "step_000006.png"]
    pixels = np.asarray(Image.open(tmp_path / "images" / "step_000003.png"))
    tops, lefts = [30 + 164 * row for row in range(4)], [10 + 164 * column for column in range(4)]
    shown = [[int(pixels[top + 80, left + 80, 0]) for left in lefts] for top in tops]
    first = [round(255 * value) for value in (0.0, 0.1, 0.2, 0.5)]
    second = [round(255 * value) for value in (0.2, 0.3, 0.4, 0.7)]
    np.testing.assert_allclose(shown, [first, first, first, second], atol=1)


class Broken(WandbLogger):
    """Stands for a logger whose service died; no run is started."""

    def __init__(self) -> None:
        super().__init__(mode="disabled")
        self.sent: list = []

    def log_metrics(self, metrics, step=None):
        if "val/sample_1" in metrics:
            self.sent.append(({key: [image._caption for image in images] for key, images in metrics.items()}, step))
            raise BrokenPipeError("gone")

    def log_hyperparams(self, params):
        pass

    def finalize(self, status):
        pass


def test_a_dead_service_warns_once_and_training_goes_on(tmp_path, caplog):
    logger = Broken()
    with caplog.at_level(logging.WARNING, logger="restoration.callbacks.image_grid"):
        fit(tmp_path, ImageGrid(images=1, nfe=(1,)), logger)
    captions = {"val/sample_1": [f"{kind}, image 0" for kind in ("degraded", "NFE 1", "clean")]}
    assert logger.sent == [(captions, 3), (captions, 6)]
    assert [record.getMessage() for record in caplog.records].count(
        "W&B did not accept the validation images (gone); the PNG files are complete"
    ) == 1
    assert len(list((tmp_path / "images").iterdir())) == 2
