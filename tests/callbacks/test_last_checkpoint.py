"""last.ckpt: when it is written, and that its counters let a run go on where it stopped."""

from pathlib import Path

import pytest
import torch
from helpers import fit, tiny_module
from lightning.pytorch import Callback

from restoration.callbacks import LastCheckpoint


class FailAt(Callback):
    """Raises in training, in validation, or in the check before training."""

    def __init__(self, where: str, step: int = 0) -> None:
        self.where, self.step = where, step

    def _fail(self, trainer, where: str) -> None:
        if where == self.where and trainer.global_step == self.step:
            raise RuntimeError(f"in {where}")

    def on_train_batch_start(self, trainer, *_) -> None:
        self._fail(trainer, "training")

    def on_validation_batch_end(self, trainer, *_) -> None:
        self._fail(trainer, "check" if trainer.sanity_checking else "validation")


def step_of(folder: Path) -> int | None:
    path = folder / "last.ckpt"
    return torch.load(path, weights_only=True)["global_step"] if path.is_file() else None


def test_it_is_written_after_validation_and_at_the_end(tmp_path: Path):
    seen = []

    class Look(Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            seen.append(step_of(tmp_path))

    fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path), Look()], max_steps=7)
    assert seen == [None] * 4 + [4] * 3 and step_of(tmp_path) == 7


@pytest.mark.parametrize("where, step, kept", [("training", 3, 3), ("validation", 4, 4), ("training", 0, None)])
def test_it_is_written_on_an_exception_once_there_is_something_to_keep(
    where: str, step: int, kept: int | None, tmp_path: Path
):
    with pytest.raises(RuntimeError, match=f"in {where}"):
        fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path), FailAt(where, step)])
    assert step_of(tmp_path) == kept


def test_a_failed_check_before_training_leaves_nothing(tmp_path: Path):
    with pytest.raises(RuntimeError, match="in check"):
        fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path), FailAt("check")], num_sanity_val_steps=1)
    assert step_of(tmp_path) is None


class Count(Callback):
    """Batches and images of each validation, and the epoch of each step."""

    def __init__(self) -> None:
        self.validations: list[list[int]] = []
        self.epochs: list[int] = []

    def on_validation_epoch_start(self, *_) -> None:
        self.validations.append([])

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_) -> None:
        self.validations[-1] += batch.index.tolist()

    def on_train_batch_start(self, trainer, *_) -> None:
        self.epochs.append(trainer.current_epoch)


def test_a_validation_cut_short_starts_anew(tmp_path: Path):
    first, second = Count(), Count()
    with pytest.raises(RuntimeError):
        fit(tiny_module(), tmp_path, [first, LastCheckpoint(tmp_path), FailAt("validation", 4)])
    fit(tiny_module(), tmp_path, [second, LastCheckpoint(tmp_path)], ckpt_path=tmp_path / "last.ckpt")
    assert [len(images) for images in first.validations] == [4]
    assert [len(set(images)) for images in second.validations] == [8, 8]
    assert second.epochs == [0, 0, 1, 1]


def test_a_run_that_ended_with_an_epoch_goes_on_with_the_next(tmp_path: Path):
    count = Count()
    fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path)], max_steps=6)
    resumed = fit(tiny_module(), tmp_path, [count], ckpt_path=tmp_path / "last.ckpt", max_steps=13)
    assert count.epochs == [1] * 6 + [2] and resumed.global_step == 13
