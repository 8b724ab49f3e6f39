"""Speed and its bottleneck, against sleeps of known length."""

import logging
import time

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from restoration.callbacks.throughput import Throughput


class Loader:
    """Batches of 4 that take their time."""

    def __init__(self, seconds: float, count: int) -> None:
        self.seconds, self.count = seconds, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            time.sleep(self.seconds)
            yield torch.zeros(4)


class Module(pl.LightningModule):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds)
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        time.sleep(0.3)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path, data: float, model: float, steps: int = 10, **more) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []

    class Keep(CSVLogger):
        def log_metrics(self, metrics, step=None):
            if "images_per_s" in metrics:
                rows.append(dict(metrics))

    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[Throughput(every_n_steps=5)], logger=Keep(tmp_path),
        max_epochs=1, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **more,
    )  # fmt: skip
    trainer.fit(Module(model), Loader(data, steps + 1), Loader(0.0, 1))
    assert "images_per_s" in trainer.progress_bar_metrics
    return rows


def test_slow_data_is_said_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="restoration.callbacks.throughput"):
        rows = fit(tmp_path, data=0.04, model=0.01)
    assert len(rows) == 2
    for row in rows:
        assert 0.65 < row["data_share"] < 0.95
        assert row["images_per_s"] == pytest.approx(4 / 0.05, rel=0.3)
    said = [record for record in caplog.records if "the data, not the model" in record.getMessage()]
    assert len(said) == 1


def test_a_slow_model_is_not_blamed_on_the_data(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="restoration.callbacks.throughput"):
        rows = fit(tmp_path, data=0.0, model=0.04)
    assert all(row["data_share"] < 0.25 for row in rows)
    assert not caplog.records


def test_validation_is_not_counted(tmp_path):
    """A validation of 0.3 s after every second step would otherwise cost three quarters of the speed."""
    rows = fit(tmp_path, data=0.0, model=0.04, steps=20, val_check_interval=2, num_sanity_val_steps=0)
    assert rows and all(row["images_per_s"] > 0.6 * 4 / 0.04 for row in rows)
    assert all(row["data_share"] < 0.25 for row in rows)
