"""Learning rates that fall on a plateau of a metric."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from restoration.callbacks import Plateau
from restoration.errors import UserError


def rates(callback: Plateau, values: list[float], groups: list[dict[str, Any]]) -> list[float]:
    """The first group's peak after a validation with each of the values."""
    module, found = SimpleNamespace(scheduled_groups=lambda: groups), []
    for value in values:
        figures = {"val/top1": torch.tensor(value)}
        trainer: Any = SimpleNamespace(sanity_checking=False, callback_metrics=figures)
        callback.on_validation_end(trainer, module)
        found.append(groups[0]["peak_lr"])
    return found


def test_rates_fall_after_so_many_validations_without_improvement():
    groups = [{"peak_lr": 0.4}, {"peak_lr": 0.04}]
    callback = Plateau("val/top1", factor=0.5, patience=2, lowest=0.1)
    found = rates(callback, [0.2, 0.3, 0.3, 0.29, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31, 0.31], groups)
    assert found == pytest.approx([0.4] * 3 + [0.2] * 3 + [0.1] * 2 + [0.05] * 2 + [0.04])
    assert groups[1]["peak_lr"] == pytest.approx(0.004)


def test_a_resumed_run_goes_on_as_it_would_have():
    values = [0.2, 0.3, 0.3, 0.29, 0.31, 0.31, 0.31]
    whole = rates(Plateau("val/top1", patience=2), values, [{"peak_lr": 1.0}])
    first, groups = Plateau("val/top1", patience=2), [{"peak_lr": 1.0}]
    begun = rates(first, values[:3], groups)
    second = Plateau("val/top1", patience=2)
    second.load_state_dict(first.state_dict())
    assert begun + rates(second, values[3:], groups) == whole and whole[-1] < whole[0]


def test_a_metric_that_is_not_logged_is_named():
    with pytest.raises(UserError, match="callbacks.plateau.monitor='val/psnr' is not logged; logged are val/top1"):
        rates(Plateau("val/psnr"), [0.1], [{"peak_lr": 1.0}])
