"""A loss that is not finite ends the training; the error names the step and the terms."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from restoration.callbacks.guards import FP16_PATIENCE, FiniteLoss
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
