"""What is not finite ends the training: loss, gradient, validation, weights. The error names it and the step."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from helpers import fit as tiny_fit
from helpers import tiny_module
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from restoration.callbacks import BestCheckpoint, FiniteValidation, LastCheckpoint
from restoration.callbacks.guards import FP16_PATIENCE, FiniteLoss
from restoration.checkpoint_file import load
from restoration.errors import UserError


class Module(pl.LightningModule):
    """Its perceptual term is NaN at the steps given; a diagnostic is NaN always."""

    def __init__(self, bad: tuple[int, ...]) -> None:
        super().__init__()
        self.bad = bad
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        velocity = 0.0 * self.weight.detach()
        perceptual = torch.tensor(float("nan") if self.global_step in self.bad else 0.5)
        loss = velocity + perceptual * self.weight
        return {"loss": loss, "velocity": velocity, "perceptual": perceptual}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(tmp_path, bad, patience=1, *more) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[FiniteLoss(patience), *more], logger=False,
        max_steps=8, enable_checkpointing=bool(more), enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(bad), [0] * 8)
    return trainer


def test_names_the_step_and_the_term(tmp_path):
    with pytest.raises(UserError, match=r"not finite at step 4 \(loss, perceptual\)"):
        fit(tmp_path, (3,))


def test_patience_counts_consecutive_steps(tmp_path):
    assert fit(tmp_path, (), 3).global_step == 8
    with pytest.raises(UserError, match="at step 6 in 3 steps in a row"):
        fit(tmp_path, (3, 4, 5), 3)


def survived(guard: FiniteLoss, losses, scaler=None) -> int:
    """Steps survived when fed these losses directly."""
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), global_step=0)
    guard.on_fit_start(trainer, None)
    for step, loss in enumerate(losses):
        trainer.global_step = step
        outputs = {"loss": torch.tensor(loss), "bin": torch.tensor(float("nan"))}
        guard.on_train_batch_end(trainer, None, outputs, None, step)
    return len(losses)


def test_interrupted_runs_of_bad_steps_and_odd_terms_pass():
    assert survived(FiniteLoss(2), [1.0, float("inf"), 1.0, float("nan"), 1.0]) == 5
    with pytest.raises(UserError, match="at step 2"):
        survived(FiniteLoss(2), [1.0, float("inf"), float("nan"), 1.0])


def test_a_gradient_scaler_may_look_for_its_level():
    overflow = [float("inf")] * (FP16_PATIENCE - 1)
    assert survived(FiniteLoss(), [*overflow, 1.0], scaler=object()) == FP16_PATIENCE
    with pytest.raises(UserError, match=f"{FP16_PATIENCE} steps in a row"):
        survived(FiniteLoss(), [*overflow, float("inf")], scaler=object())


def test_a_patience_below_one_is_refused():
    with pytest.raises(UserError, match="callbacks.finite_loss.patience=0 must be a whole number, at least 1"):
        FiniteLoss(0)


def test_no_checkpoint_of_broken_weights(tmp_path):
    saving = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=1, save_top_k=-1, save_on_exception=True)
    with pytest.raises(UserError):
        fit(tmp_path, (3,), 1, saving)
    assert len(list((tmp_path / "kept").iterdir())) == 3


class Gradient(Module):
    """The loss is finite; its gradient is not, at one step."""

    def training_step(self, batch, batch_idx):
        loss = 1.0 * self.weight
        if self.global_step == 5:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return {"loss": loss}


def test_a_gradient_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "Module", Gradient)
    with pytest.raises(UserError, match=r"the gradient is not finite at step 6 \(gradient norm\)"):
        fit(tmp_path, ())


class Figure(Callback):
    """Logs a validation figure, NaN at a step."""

    def __init__(self, name: str, step: int, spoil: bool = False) -> None:
        self.name, self.step, self.spoil = name, step, spoil

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        bad = trainer.global_step == self.step
        if bad and self.spoil:
            next(pl_module.restorer.backbone.parameters()).data.fill_(float("nan"))
        pl_module.log(self.name, float("nan") if bad else 20.0)


@pytest.mark.parametrize(
    "name, spoil, said",
    [
        ("val/psnr", False, r"validation is not finite at step 4 \(val/psnr=nan\)"),
        ("val/frechet", True, r"step 4 \(val/frechet=nan; the weight restorer\.\S+ is not finite\)"),
    ],
)
def test_a_validation_figure_that_is_not_finite_ends_the_run(name: str, spoil: bool, said: str, tmp_path):
    """Early stopping would end it as a success. The checkpoints are those of before."""
    kept = [EarlyStopping(name), BestCheckpoint(tmp_path, "best", name, "max"), LastCheckpoint(tmp_path)]
    with pytest.raises(UserError, match=said):
        tiny_fit(tiny_module(), tmp_path, [Figure(name, 4, spoil), FiniteValidation(), *kept], val_check_interval=2)
    for file in ("last.ckpt", "best.ckpt"):
        assert load(tmp_path / file)["global_step"] == 2


def test_a_figure_that_may_be_nan_does_not_matter(tmp_path):
    watched = [Figure("val/psnr_hole", 4), FiniteValidation()]
    assert tiny_fit(tiny_module(), tmp_path, watched, val_check_interval=2).global_step == 8


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    """Without any guard, at a validation and on an exception: the file itself refuses."""

    class SpoilAt(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_) -> None:
            if trainer.global_step == 3:
                next(pl_module.restorer.backbone.parameters()).data.fill_(float("nan"))

    with pytest.raises(UserError, match=r"the weight restorer\.\S+ is not finite at step 4"):
        tiny_fit(tiny_module(), tmp_path, [SpoilAt(), LastCheckpoint(tmp_path)], val_check_interval=2)
    assert load(tmp_path / "last.ckpt")["global_step"] == 2 and not (tmp_path / "last.ckpt.part").exists()
