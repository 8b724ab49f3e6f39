"""The average: closed forms, and that validation, checkpoints and the loaded restorer use it."""

from pathlib import Path

import pytest
import torch
from helpers import copy_of, differing, fit, tiny_module
from lightning.pytorch import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel

from restoration.callbacks import EMA, LastCheckpoint
from restoration.restorer import Restorer


def averages(horizon: float, values: list[float]) -> list[float]:
    """The average of a scalar parameter after each of its values."""
    scalar = nn.Linear(1, 1, bias=False).double()
    averaged = AveragedModel(scalar, use_buffers=True, multi_avg_fn=EMA(horizon)._average)
    seen = []
    for value in values:
        scalar.weight.data.fill_(value)
        averaged.update_parameters(scalar)
        seen.append(float(averaged.module.weight))
    return seen


def test_a_horizon_of_all_steps_is_the_running_mean():
    values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0]
    means = [sum(values[: count + 1]) / (count + 1) for count in range(len(values))]
    assert averages(1.0, values) == pytest.approx(means, abs=1e-12)


@pytest.mark.parametrize("horizon", [0.1, 0.5, 1.0])
def test_on_a_ramp_it_lags_by_its_share_of_the_steps(horizon: float):
    # Of c_n = n, the recursion a += (c - a) / (h (n - 1) + 1) has the solution a_n = (n + h) / (1 + h).
    ramp = [float(step) for step in range(1, 200)]
    expected = [(step + horizon) / (1 + horizon) for step in ramp]
    assert averages(horizon, ramp) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("horizon", [0.0, -0.1, 1.1])
def test_a_horizon_that_is_no_share_is_refused(horizon: float):
    with pytest.raises(ValueError, match="a share in"):
        EMA(horizon)


class Witness(Callback):
    """The weights that training and validation run on, and the exception it is told to raise."""

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail
        self.trained: dict = {}
        self.validated: dict = {}
        self.every_step: list[dict] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.trained = copy_of(pl_module)
        self.every_step.append(self.trained)

    def on_validation_batch_start(self, trainer, pl_module, *_) -> None:
        self.validated = copy_of(pl_module)
        if self.fail and trainer.global_step == 4:
            raise RuntimeError("in the middle of validation")


def parameters_of(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def test_validation_sees_the_average_of_all_steps(tmp_path: Path):
    witness, module = Witness(), tiny_module()
    fit(module, tmp_path, [EMA(horizon=1.0), witness], max_steps=4)
    assert len(witness.every_step) == 4
    for name in parameters_of(module):
        mean = torch.stack([step[name].double() for step in witness.every_step]).mean(dim=0)
        torch.testing.assert_close(witness.validated[name].double(), mean, rtol=1e-4, atol=1e-6)
    assert differing(witness.validated, witness.trained) >= {"restorer.backbone.head.weight"}
    # Training has its own weights back.
    assert not differing(copy_of(module), witness.trained)


def test_batch_statistics_are_averaged_and_counters_copied(tmp_path: Path):
    """A counter's average would be rounded."""
    witness, ema, module = Witness(), EMA(horizon=1.0), tiny_module("random")
    fit(module, tmp_path, [ema, witness], max_steps=4)
    averaged = dict(ema._average_model.module.named_buffers())
    counters = {name: int(value) for name, value in averaged.items() if name.endswith("num_batches_tracked")}
    assert counters and set(counters.values()) == {4}
    statistics = [name for name in averaged if "running_" in name]
    for name in statistics:
        steps = torch.stack([step[f"restorer.{name}"].double() for step in witness.every_step])
        torch.testing.assert_close(averaged[name].double(), steps.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(averaged[name], witness.trained[f"restorer.{name}"]) for name in statistics)


def test_the_checkpoint_and_what_is_loaded_from_it_are_the_average(tmp_path: Path):
    witness, module = Witness(), tiny_module()
    fit(module, tmp_path, [EMA(), witness, LastCheckpoint(tmp_path)], max_steps=4)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not differing(saved["state_dict"], witness.validated)
    assert not differing(saved["current_model_state"], witness.trained)
    assert differing(saved["state_dict"], saved["current_model_state"])
    restorer = Restorer.load(tmp_path / "last.ckpt")
    assert not differing(
        {f"restorer.{name}": value for name, value in restorer.state_dict().items()}, witness.validated
    )
    assert not restorer.training


def test_only_the_restorer_is_averaged(tmp_path: Path):
    """A term's own parameters, such as a discriminator's, stay out of the average and as they are in a checkpoint."""
    ema, module = EMA(horizon=1.0), tiny_module()
    module.objective.extra = nn.Linear(2, 2)
    fit(module, tmp_path, [ema, LastCheckpoint(tmp_path)], max_steps=2)
    names = set(ema._average_model.module.state_dict())
    assert names == set(module.restorer.state_dict())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name for name in saved["state_dict"] if not name.startswith("restorer.")} == {
        "objective.extra.weight",
        "objective.extra.bias",
    }
    assert saved["current_model_state"].keys() == {f"restorer.{name}" for name in names}


def test_an_exception_in_validation_leaves_the_two_in_their_places(tmp_path: Path):
    witness, module = Witness(fail=True), tiny_module()
    with pytest.raises(RuntimeError, match="in the middle of validation"):
        fit(module, tmp_path, [EMA(), witness, LastCheckpoint(tmp_path)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not differing(saved["current_model_state"], witness.trained)
    assert not differing(saved["state_dict"], witness.validated)
    assert not differing(copy_of(module), witness.trained)


def test_an_exception_in_training_swaps_nothing(tmp_path: Path):
    class Fail(Witness):
        def on_train_batch_start(self, trainer, pl_module, *_) -> None:
            if trainer.global_step == 5:
                raise RuntimeError("in training")

    witness, module = Fail(), tiny_module()
    with pytest.raises(RuntimeError, match="in training"):
        fit(module, tmp_path, [EMA(), witness, LastCheckpoint(tmp_path)])
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 5
    assert not differing(saved["current_model_state"], witness.trained)
