"""Alarms of holes that are not filled: known figures, and one warning each."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.callbacks import FillingAlarms
from restoration.keyed import normal


def make_batch(count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(count, 3, 16, 16, generator=generator) * 0.5 + 0.25
    mask = torch.zeros(count, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 3:13] = True
    index = torch.arange(count)
    return Batch(clean, clean.masked_fill(mask, 0.0), mask, torch.ones(count), index)


ANSWERS = {
    "clean": lambda batch, keys: batch.clean,
    "degraded": lambda batch, keys: batch.degraded,
    "grey": lambda batch, keys: batch.clean.masked_fill(batch.mask, 0.5),
    "noise": lambda batch, keys: batch.clean + 0.1 * normal(keys, (3, 16, 16)) * batch.mask,
    "wild": lambda batch, keys: batch.clean + 9 * normal(keys, (3, 16, 16)) * batch.mask,
}


class Module:
    """Logs into a dictionary; restores by a function."""

    device = "cpu"

    def __init__(self, answer: str, batch: Batch) -> None:
        self.logged: dict[str, float] = {}
        self.restorer = SimpleNamespace(
            restore=lambda degraded, keys: SimpleNamespace(images=ANSWERS[answer](batch, keys)[: len(degraded)])
        )

    def log(self, name: str, value: float) -> None:
        self.logged[name] = float(value)


def trainer(step: int = 0) -> SimpleNamespace:
    context = SimpleNamespace(val_step_context=torch.no_grad)
    return SimpleNamespace(
        world_size=1, is_global_zero=True, sanity_checking=False, global_step=step, precision_plugin=context
    )


def validate(alarms: FillingAlarms, answer: str, step: int = 0) -> dict[str, float]:
    batch = make_batch()
    module = Module(answer, batch)
    alarms.on_validation_epoch_start(trainer(step), module)  # type: ignore[arg-type]
    alarms.on_validation_batch_end(trainer(step), module, None, batch, 0)  # type: ignore[arg-type]
    alarms.on_validation_epoch_end(trainer(step), module)  # type: ignore[arg-type]
    return module.logged


def figures(logged: dict[str, float]) -> Tensor:
    return torch.tensor([logged[f"val/hole_{name}"] for name in ("change", "texture", "spread")])


def test_the_figures_are_those_of_known_answers():
    torch.testing.assert_close(figures(validate(FillingAlarms(), "clean")), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(figures(validate(FillingAlarms(), "degraded")), torch.tensor([0.0, 0.0, 0.0]))
    change, texture, spread = figures(validate(FillingAlarms(), "grey"))
    clean = make_batch()
    hole = clean.mask.expand_as(clean.clean)
    torch.testing.assert_close(change, 0.25 / clean.clean[hole].square().mean())
    assert texture == 0 and spread == 0
    # Two draws of standard deviation 0.1: the mean of their standard deviation is 0.1·√(2/π).
    noise = figures(validate(FillingAlarms(), "noise"))
    torch.testing.assert_close(noise[2], torch.tensor(0.1 * (2 / torch.pi) ** 0.5), rtol=0.05, atol=0)
    assert noise[1] > 1.2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("degraded", ["left as they are", "constant colour"]),
        ("grey", ["constant colour"]),
        ("noise", []),
        ("wild", ["filled with noise"]),
        ("clean", []),
    ],
)
def test_each_alarm_is_one_warning(answer: str, said: list[str], caplog: pytest.LogCaptureFixture):
    alarms = FillingAlarms(patience=2)
    validate(alarms, answer, 100)
    assert not caplog.messages
    resumed = FillingAlarms(patience=2)
    resumed.load_state_dict(alarms.state_dict())
    for step in (200, 300):
        validate(resumed, answer, step)
    assert len(caplog.messages) == len(said)
    for message, words in zip(caplog.messages, said, strict=True):
        assert words in message and "step 200" in message


def test_a_good_validation_in_between_starts_the_count_again(caplog: pytest.LogCaptureFixture):
    alarms = FillingAlarms(patience=2)
    for answer in ("grey", "clean", "grey", "clean"):
        validate(alarms, answer)
    assert not caplog.messages


def test_images_without_holes_have_no_figures():
    alarms, batch = FillingAlarms(), make_batch()
    batch.mask = torch.zeros_like(batch.mask)
    module = Module("clean", batch)
    alarms.on_validation_epoch_start(trainer(), module)  # type: ignore[arg-type]
    alarms.on_validation_batch_end(trainer(), module, None, batch, 0)  # type: ignore[arg-type]
    alarms.on_validation_epoch_end(trainer(), module)  # type: ignore[arg-type]
    assert module.logged == {}
