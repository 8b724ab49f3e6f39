"""The best weights: kept by the metric, and nothing if the metric is not logged."""

from pathlib import Path

import pytest
import torch
from helpers import fit, tiny_module
from lightning.pytorch import Callback

from restoration.callbacks import BestCheckpoint


class Score(Callback):
    """Logs a given validation metric, one value per validation."""

    def __init__(self, values: list[float]) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        pl_module.log("val/psnr", self.values.pop(0))


@pytest.mark.parametrize("mode, step", [("max", 4), ("min", 6)])
def test_it_keeps_the_best_by_its_mode(mode: str, step: int, tmp_path: Path):
    best = BestCheckpoint(tmp_path, "best", "val/psnr", mode)
    fit(tiny_module(), tmp_path, [Score([20.0, 21.0, 19.0]), best], max_steps=6, val_check_interval=2)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["global_step"] == step and "optimizer_states" not in saved
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["best.ckpt"]


def test_without_its_metric_it_saves_nothing_and_the_run_goes_on(tmp_path: Path):
    best = BestCheckpoint(tmp_path, "best", "val/psnr", "max")
    assert fit(tiny_module(), tmp_path, [best], max_steps=6, val_check_interval=2).global_step == 6
    assert not list(tmp_path.glob("*.ckpt"))
