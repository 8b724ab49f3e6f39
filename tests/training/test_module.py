"""The Lightning shell: parameter groups, the schedule per group, what is logged, what a checkpoint holds."""

from pathlib import Path

import pytest
import torch
from helpers import copy_of, differing, encoder_file, fit, tiny_data, tiny_module
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from restoration.callbacks import EMA
from restoration.errors import UserError
from restoration.restorer import Restorer
from restoration.training.schedule import Cosine


class Watch(Callback):
    """Learning rates of each step, by group; the figures that were logged."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []
        self.figures: dict[str, float] = {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})
        self.figures |= {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_every_parameter_is_in_exactly_one_group(tmp_path: Path):
    module = tiny_module(encoder_file(tmp_path))
    groups = module.restorer.parameter_groups()
    assert list(groups) == ["new", "encoder_upper", "encoder_lower"]
    grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
    assert len(grouped) == len(set(grouped)) and set(grouped) == {id(p) for p in module.parameters()}
    encoder = {id(parameter) for parameter in module.restorer.backbone.encoder.parameters()}
    assert encoder == {id(p) for name in ("encoder_upper", "encoder_lower") for p in groups[name]}
    names = {id(p): name for name, p in module.named_parameters()}
    assert ".layer4." in names[id(groups["encoder_upper"][-1])]
    assert ".conv1." in names[id(groups["encoder_lower"][0])]


def test_without_pretrained_parameters_there_is_one_group(tmp_path: Path):
    module = tiny_module("random")
    assert list(module.restorer.parameter_groups()) == ["new"]
    watch = Watch()
    fit(module, tmp_path, [watch], max_steps=1)
    assert [list(rates) for rates in watch.rates] == [["new"]]


def test_the_learning_rate_follows_the_schedule_step_by_step(tmp_path: Path):
    schedule, watch = Cosine(warmup=0.25, final=0.1), Watch()
    fit(tiny_module(encoder_file(tmp_path), schedule=schedule, lr=1e-3), tmp_path, [watch])
    expected = [1e-3 * schedule(step, 8) for step in range(8)]
    for name in ("new", "encoder_upper", "encoder_lower"):
        assert [rates[name] for rates in watch.rates] == pytest.approx(expected)
    assert len(set(expected)) == 8


def test_losses_are_logged_by_term_and_by_time(tmp_path: Path):
    watch, module = Watch(), tiny_module()
    trainer = fit(module, tmp_path, [watch], max_steps=4)
    figures = watch.figures | {name: float(value) for name, value in trainer.callback_metrics.items()}
    for split in ("train", "val"):
        total = sum(figures[f"{split}/{name}"] for name in ("flow", "estimator_hole", "estimator_error"))
        assert figures[f"{split}/loss"] == pytest.approx(total, rel=1e-5)
        bins = ["t0", "t0.00-0.25", "t0.25-0.50", "t0.50-0.75", "t0.75-1.00"]
        assert all(figures[f"{split}/velocity_{edge}"] >= 0 for edge in bins)
        assert any(figures[f"{split}/velocity_{edge}"] > 0 for edge in bins)


def test_validation_of_the_same_weights_is_the_same(tmp_path: Path):
    """Its draws are keyed by the images, not by the step or a global generator."""
    module = tiny_module()
    trainer = fit(module, tmp_path, [], max_steps=1)
    first = trainer.validate(module, datamodule=tiny_data(), verbose=False)
    torch.rand(3)
    assert trainer.validate(module, datamodule=tiny_data(), verbose=False) == first


def test_training_is_a_function_of_the_seed(tmp_path: Path):
    ends = []
    for junk in (0, 5):
        torch.manual_seed(1)
        module = tiny_module()
        torch.rand(junk)  # the state of the global generator does not matter
        fit(module, tmp_path, [], max_steps=3)
        ends.append(copy_of(module))
    assert not differing(*ends)


def test_a_weights_only_checkpoint_holds_the_average(tmp_path: Path):
    """Lightning leaves callbacks, and with them the average, out of such a file."""
    ema = EMA(horizon=1.0)
    keep = ModelCheckpoint(tmp_path, filename="best", monitor="val/loss", save_weights_only=True, every_n_epochs=0)
    module = tiny_module()
    trainer = fit(module, tmp_path, [ema, keep], limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    saved = torch.load(tmp_path / "weights.ckpt", weights_only=True)
    assert "current_model_state" not in saved and "optimizer_states" not in saved and saved["config"] == module.config
    averaged = copy_of(ema._average_model.module)
    assert not differing(saved["state_dict"], {f"restorer.{name}": value for name, value in averaged.items()})
    assert differing(saved["state_dict"], module.state_dict())
    assert not differing(Restorer.load(tmp_path / "weights.ckpt").state_dict(), averaged)


def test_pretrained_batch_statistics_never_move(tmp_path: Path):
    module = tiny_module(encoder_file(tmp_path))
    encoder = module.restorer.backbone.encoder
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    weights = copy_of(encoder)
    fit(module, tmp_path, [], max_steps=3)
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert {name for name in differing(weights, encoder.state_dict()) if "weight" in name}


def test_random_batch_statistics_do_move(tmp_path: Path):
    module = tiny_module("random")
    encoder = module.restorer.backbone.encoder
    before = copy_of(encoder)
    fit(module, tmp_path, [], max_steps=3)
    assert any(name.endswith("running_mean") for name in differing(before, encoder.state_dict()))


def test_another_number_of_devices_is_refused(tmp_path: Path):
    """A step would take another number of images than the schedule and the counters go by."""
    module = tiny_module()
    module._images_per_batch = 8  # as a checkpoint of two devices sets it
    with pytest.raises(UserError, match="this run trains on 8 images at a time on all devices, not 4"):
        fit(module, tmp_path, [], max_steps=1)


def test_seconds_are_counted_over_resumes(tmp_path: Path):
    module = tiny_module()
    trainer = fit(module, tmp_path, [], max_steps=2)
    first = module.training_seconds
    assert first > 0 and module.training_seconds == first  # the clock stands still after the training
    checkpoint: dict = {"images_per_batch": 4, "training_seconds": 100.0}
    module.on_load_checkpoint(checkpoint)
    assert module.training_seconds == 100.0 and trainer.global_step == 2
