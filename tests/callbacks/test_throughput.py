"""Speed and the share of waiting, against sleeps of known length."""

import logging
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from restoration.callbacks import DataWait, Throughput
from restoration.errors import UserError


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
    flops_per_batch = None

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        time.sleep(self.seconds)
        return self.weight.square()

    def validation_step(self, batch, batch_idx):
        time.sleep(0.06)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path: Path, data: float, model: float, steps: int = 10, **more) -> tuple[list[float], list[float]]:
    """Trains with both callbacks; gives the logged shares of waiting and images per second."""
    shares: list[float] = []
    speeds: list[float] = []
    names: set[str] = set()

    class Keep(CSVLogger):
        def log_metrics(self, metrics, step=None):
            shares.extend([metrics["data_share"]] if "data_share" in metrics else [])
            speeds.extend(value for name, value in metrics.items() if name == "train/device/samples_per_sec")
            names.update(metrics)

    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        callbacks=[Throughput(window_size=6), DataWait(every_n_steps=5)],
        logger=Keep(tmp_path),
        max_epochs=1,
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )
    trainer.fit(Module(model), Loader(data, steps + 1), Loader(0.0, 5 if "val_check_interval" in more else 1))
    assert not [name for name in names if name.startswith("validate")]
    return shares, speeds


def test_slow_data_is_reported_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="restoration.callbacks.throughput"):
        shares, speeds = fit(tmp_path, data=0.04, model=0.01)
    assert len(shares) == 2 and all(0.65 < share < 0.95 for share in shares)
    assert speeds and speeds == pytest.approx([4 / 0.05] * len(speeds), rel=0.3)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1 and warned[0].startswith("data loading limits the speed: it takes ")


def test_a_slow_model_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="restoration.callbacks.throughput"):
        shares, _ = fit(tmp_path, data=0.0, model=0.04)
    assert shares and all(share < 0.25 for share in shares)
    assert not caplog.records


def test_validation_is_not_counted(tmp_path: Path):
    """A validation of 0.3 s after every second step would otherwise cost three quarters of the speed."""
    shares, speeds = fit(tmp_path, data=0.0, model=0.04, steps=20, val_check_interval=2, num_sanity_val_steps=0)
    assert speeds and all(speed > 0.6 * 4 / 0.04 for speed in speeds)
    assert shares and all(share < 0.25 for share in shares)


def test_a_mean_over_too_few_steps_is_refused():
    with pytest.raises(UserError, match="window_size=1 must be a whole number, at least 2"):
        Throughput(window_size=1)
    with pytest.raises(UserError, match="every_n_steps=0 must be a whole number, at least 1"):
        DataWait(every_n_steps=0)
