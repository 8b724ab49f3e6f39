"""Two stages: frozen parameters stay bit-identical, when the switch comes, and what it does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import copy_of, differing, encoder_file, fit, tiny_module
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from restoration.callbacks import LastCheckpoint, StagedUnfreezing
from restoration.errors import UserError
from restoration.training.schedule import Cosine

PEAKS = {"new": 3e-4, "encoder_upper": 1e-4, "encoder_lower": 3e-5}


class Watch(Callback):
    """Before each step: the stage, the rates, which groups train; after it: the encoder."""

    def __init__(self, staged: StagedUnfreezing) -> None:
        self.staged = staged
        self.stages: list[int] = []
        self.rates: list[dict[str, float]] = []
        self.logged: list[dict[str, float]] = []
        self.training: list[dict[str, set[bool]]] = []
        self.encoders: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        groups = pl_module.restorer.parameter_groups()
        self.stages.append(self.staged.stage)
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})
        self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("lr/")})
        self.training.append({name: {p.requires_grad for p in group} for name, group in groups.items()})
        self.encoders.append(copy_of(pl_module.restorer.backbone.encoder))


class Score(Callback):
    """Logs a given validation metric, one value per validation."""

    def __init__(self, values: list[float]) -> None:
        self.values = list(values)

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            pl_module.log("val/psnr", self.values.pop(0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("weights"))


def train(folder: Path, weights: Path, rule: dict[str, Any], extra: tuple[Callback, ...] = (), **options: Any) -> Watch:
    staged = StagedUnfreezing(PEAKS, **rule)
    watch = Watch(staged)
    fit(tiny_module(weights, schedule=Cosine(warmup=0.25), lr=1e-3), folder, [*extra, staged, watch], **options)
    return watch


def test_the_frozen_encoder_is_bit_identical_and_the_rest_is_not(weights: Path, tmp_path: Path):
    staged = StagedUnfreezing(PEAKS, share=0.5)
    module, watch = tiny_module(weights, weight_decay=0.5), Watch(staged)
    before, whole = copy_of(module.restorer.backbone.encoder), copy_of(module)
    fit(module, tmp_path, [staged, watch])
    # Neither gradients nor weight decay (0.5 here) reach frozen parameters.
    for encoder in watch.encoders[:4]:
        assert not differing(before, encoder)
    moved = {name for name in differing(before, watch.encoders[-1])}
    assert moved >= {name for name in before if name.endswith("conv1.weight")}
    # Batch statistics stay as they were loaded in both stages.
    assert not [name for name in moved if "running" in name or "tracked" in name]
    assert "restorer.backbone.head.weight" in differing(whole, module.state_dict())


def test_it_switches_at_a_share_of_the_steps(weights: Path, tmp_path: Path):
    watch = train(tmp_path, weights, {"share": 0.6}, max_steps=10)
    assert watch.stages == [1] * 6 + [2] * 4
    frozen = {"new": {True}, "encoder_upper": {False}, "encoder_lower": {False}}
    assert watch.training[:6] == [frozen] * 6
    assert watch.training[6:] == [dict.fromkeys(PEAKS, {True})] * 4


def test_it_switches_at_an_epoch(weights: Path, tmp_path: Path):
    # Six batches an epoch.
    assert train(tmp_path, weights, {"epoch": 1}, max_steps=9).stages == [1] * 6 + [2] * 3


def test_an_epoch_of_accumulated_batches_counts_fewer_steps(weights: Path, tmp_path: Path):
    watch = train(tmp_path, weights, {"epoch": 1}, max_steps=5, accumulate_grad_batches=2, val_check_interval=6)
    assert watch.stages == [1] * 6 + [2] * 4  # per batch: two make a step


def test_it_switches_at_a_plateau(weights: Path, tmp_path: Path):
    # Improvements below 0.02 dB do not count: two validations without one end stage 1, here after step 8.
    scores = Score([20.0, 21.0, 21.01, 20.5, 22.0, 22.0])
    rule = {"patience": 2, "min_delta": 0.02}
    watch = train(tmp_path, weights, rule, (scores,), max_steps=12, val_check_interval=2)
    assert watch.stages == [1] * 8 + [2] * 4


def test_an_improvement_resets_the_plateau(weights: Path, tmp_path: Path):
    scores = Score([20.0, 19.0, 21.0, 20.9, 20.8])
    watch = train(tmp_path, weights, {"patience": 2}, (scores,), max_steps=10, val_check_interval=2)
    assert watch.stages == [1] * 10


def test_a_metric_that_is_not_logged_is_named(weights: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"monitor='val/psnr' is not logged; logged are .*val/loss"):
        train(tmp_path, weights, {"patience": 1})


def test_the_first_of_several_rules_counts(weights: Path, tmp_path: Path):
    assert train(tmp_path, weights, {"share": 0.25, "epoch": 1}).stages == [1] * 2 + [2] * 6


def test_the_schedule_restarts_with_the_peak_of_each_group(weights: Path, tmp_path: Path):
    watch = train(tmp_path, weights, {"share": 0.5}, max_steps=16)
    schedule = Cosine(warmup=0.25)
    assert [rates["new"] for rates in watch.rates[:8]] == pytest.approx([1e-3 * schedule(s, 8) for s in range(8)])
    for name, peak in PEAKS.items():
        expected = [peak * schedule(step, 8) for step in range(8)]
        assert [rates[name] for rates in watch.rates[8:]] == pytest.approx(expected)
        assert expected[0] < expected[1] < max(expected) and expected[-1] < 0.2 * peak
    # The logged learning rate is the one that the step used; 0 for a frozen group.
    for step, (rates, logged) in enumerate(zip(watch.rates, watch.logged, strict=True)):
        used = {f"lr/{name}": rate if step >= 8 or name == "new" else 0.0 for name, rate in rates.items()}
        assert logged == pytest.approx(used)


def test_early_stopping_restarts(weights: Path, tmp_path: Path):
    stopping = EarlyStopping("val/psnr", mode="max", patience=3)
    waits = []

    class Waits(Callback):
        def on_train_batch_end(self, *_) -> None:
            waits.append(stopping.wait_count)

    scores = Score([20.0, 19.0, 18.0, 17.0])
    train(tmp_path, weights, {"share": 0.75}, (scores, stopping, Waits()), val_check_interval=2)
    # A third validation without improvement would have ended the run; the switch at step 6 resets the count.
    assert waits == [0, 0, 0, 0, 1, 1, 0, 0]


def test_a_resumed_second_stage_is_not_frozen_again(weights: Path, tmp_path: Path):
    """Lightning's BaseFinetuning does that silently."""
    staged = StagedUnfreezing(PEAKS, share=0.5)
    fit(tiny_module(weights), tmp_path, [staged, LastCheckpoint(tmp_path)], max_steps=8)
    staged = StagedUnfreezing(PEAKS, share=0.5)
    watch, module = Watch(staged), tiny_module(weights)
    fit(module, tmp_path, [staged, watch], ckpt_path=tmp_path / "last.ckpt", max_steps=10)
    assert watch.stages == [2, 2]
    assert watch.training == [dict.fromkeys(PEAKS, {True})] * 2
    assert "model.conv1.0.weight" in differing(*watch.encoders)


def test_without_pretrained_parameters_there_is_one_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    staged = StagedUnfreezing({}, share=0.5)
    watch = Watch(staged)
    with caplog.at_level("INFO", logger="restoration.callbacks.staged_unfreezing"):
        fit(tiny_module("random", schedule=Cosine(warmup=0.25), lr=1e-3), tmp_path, [staged, watch])
    assert "everything trains from the start, in one stage" in caplog.text
    assert watch.stages == [1] * 8 and watch.training == [{"new": {True}}] * 8
    # One schedule over the whole run.
    expected = [1e-3 * Cosine(warmup=0.25)(step, 8) for step in range(8)]
    assert [rates["new"] for rates in watch.rates] == pytest.approx(expected)


def test_a_rule_is_required():
    with pytest.raises(UserError, match="give share, epoch or patience"):
        StagedUnfreezing(PEAKS)


def test_a_group_without_a_rate_is_named(weights: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"learning_rates lacks \['encoder_lower'\]"):
        rates = {"new": 1e-4, "encoder_upper": 1e-4}
        fit(tiny_module(weights), tmp_path, [StagedUnfreezing(rates, share=0.5)])
