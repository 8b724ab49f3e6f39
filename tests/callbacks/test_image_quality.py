"""Validation figures reach the callbacks that watch them, exact over unequal batches."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader

from restoration.batch import Batch
from restoration.callbacks.image_quality import ImageQuality
from restoration.errors import UserError
from restoration.metrics.frechet import FrechetDistance, frechet_distance
from restoration.metrics.image import psnr, psnr_region, ssim
from restoration.restorer import Restored


class Restorer(nn.Module):
    """Brightens by a trained amount, by NFE."""

    def __init__(self) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(0.02))

    def restore(self, degraded, keys, nfe=None):
        self.autocast = torch.is_autocast_enabled("cpu")
        return Restored((degraded + self.amount * nfe).clamp(0, 1), torch.zeros(len(degraded)))


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.restorer = Restorer()

    def training_step(self, batch, batch_idx):
        return (batch.degraded + self.restorer.amount - batch.clean).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def batches(sizes, hole=True) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    made, first = [], 0
    for size in sizes:
        clean = torch.rand(size, 3, 32, 32, generator=generator)
        mask = torch.zeros(size, 1, 32, 32, dtype=torch.bool)
        if hole and not made:
            mask[:, :, 8:20, 8:20] = True  # later batches have no hole at all
        index = torch.arange(first, first + size)
        made.append(Batch(clean, clean * ~mask * 0.9, mask, torch.ones(size), index))
        first += size
    return made


def trainer(tmp_path, *callbacks, **more) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=list(callbacks), logger=False, max_epochs=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **more,
    )  # fmt: skip


def loader(made: list[Batch]) -> DataLoader:
    return DataLoader(made, batch_size=None)


def joined(data, name):
    return torch.cat([getattr(batch, name) for batch in data])


def test_means_are_exact_over_unequal_batches_and_images_with_a_hole(tmp_path):
    data, module = batches((5, 3, 1)), Module()
    runner = trainer(tmp_path, ImageQuality(nfe=(1, 4)), precision="bf16-mixed")
    runner.validate(module, loader(data), verbose=False)
    assert module.restorer.autocast, "the network runs in the trainer's precision"
    clean, degraded, mask = (joined(data, name) for name in ("clean", "degraded", "mask"))
    for nfe in (1, 4):
        restored = (degraded + 0.02 * nfe).clamp(0, 1).detach()
        logged = {name: float(runner.callback_metrics[f"val/{name}_nfe{nfe}"])
                  for name in ("psnr", "ssim", "psnr_hole", "psnr_known")}  # fmt: skip
        assert logged["psnr"] == pytest.approx(float(psnr(restored, clean).mean()), rel=1e-5)
        assert logged["ssim"] == pytest.approx(float(ssim(restored, clean).mean()), rel=1e-5)
        assert logged["psnr_hole"] == pytest.approx(float(psnr_region(restored, clean, mask)[:5].mean()), rel=1e-5)
        assert logged["psnr_known"] == pytest.approx(float(psnr_region(restored, clean, ~mask)[:5].mean()), rel=1e-5)
    assert float(runner.callback_metrics["val/psnr_identity"]) == pytest.approx(float(psnr(degraded, clean).mean()))


def test_without_holes_their_metrics_are_left_out(tmp_path):
    runner = trainer(tmp_path, ImageQuality(nfe=(1,)))
    runner.validate(Module(), loader(batches((2,), hole=False)), verbose=False)
    assert "val/psnr_nfe1" in runner.callback_metrics and "val/psnr_hole_nfe1" not in runner.callback_metrics


def test_a_broken_restorer_is_not_averaged_away(tmp_path):
    module, runner = Module(), trainer(tmp_path, ImageQuality(nfe=(1,)))
    module.restorer.amount.data.fill_(torch.nan)
    runner.validate(module, loader(batches((2,))), verbose=False)
    assert runner.callback_metrics["val/psnr_nfe1"].isnan()


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return [x]


def test_frechet_over_the_whole_set_and_clean_features_once(tmp_path):
    data, module, maps = batches((5, 3)), Module(), Maps()
    frechet = FrechetDistance(maps, "frechet_maps")
    quality = ImageQuality(nfe=(1,), frechet=frechet)
    runner = trainer(tmp_path, quality)
    runner.validate(module, loader(data), verbose=False)
    first = float(runner.callback_metrics["val/frechet_nfe1"])
    assert maps.calls == 4
    assert first == pytest.approx(frechet_distance(quality._restored[1], quality._clean))
    assert quality._clean.count == 8
    runner.validate(module, loader(data), verbose=False)
    assert maps.calls == 6 and float(runner.callback_metrics["val/frechet_nfe1"]) == first
    assert not any("frechet" in name or "encoder" in name for name in module.state_dict())


def test_checkpoints_and_stages_watch_the_first_and_the_last_nfe(tmp_path):
    quality = ImageQuality(nfe=(4, 1), frechet=FrechetDistance(Maps(), "frechet_maps"))
    runner = trainer(tmp_path, quality)
    runner.validate(Module(), loader(batches((5, 3))), verbose=False)
    logged = runner.callback_metrics
    assert logged["val/psnr"] == logged["val/psnr_nfe4"] != logged["val/psnr_nfe1"]
    assert logged["val/frechet"] == logged["val/frechet_nfe1"] != logged["val/frechet_nfe4"]


@pytest.mark.parametrize("nfe", [(), (0,), (4, -1)])
def test_impossible_numbers_of_evaluations_are_refused(nfe: tuple[int, ...]):
    with pytest.raises(UserError, match=r"callbacks.image_quality.nfe=\[.*\]: give whole numbers from 1 up"):
        ImageQuality(nfe=nfe)


def test_early_stopping_sees_it(tmp_path):
    stopping = EarlyStopping("val/psnr", mode="max", patience=1)
    runner = trainer(tmp_path, ImageQuality(nfe=(1,)), stopping, num_sanity_val_steps=1)
    runner.fit_loop.max_epochs = 9
    runner.fit(Module(), loader(batches((2,))), loader(batches((2,))))
    assert runner.current_epoch == 2  # nothing is learned, so one epoch of patience ends it
