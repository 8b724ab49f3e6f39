"""last.ckpt: when it is written, and that its counters let a run go on where it stopped."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from helpers import copy_of, differing, fit, tiny_module
from lightning.pytorch import Callback

from restoration.callbacks import LastCheckpoint
from restoration.errors import UserError


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


class Keep(Callback):
    """Keeps every last.ckpt that it sees, by its step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, *_) -> None:
        if (step := step_of(self.folder)) is not None:
            shutil.copy(self.folder / "last.ckpt", self.folder / f"kept_{step}.ckpt")


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_run_resumes_exactly_from_every_step(accumulated: int, tmp_path: Path):
    """Written by minutes, here after every optimiser step: in an epoch, at its end and around validations."""
    # Six batches an epoch, validation after every fourth.
    options = {"max_steps": 8 // accumulated, "accumulate_grad_batches": accumulated}
    whole = tiny_module()
    fit(whole, tmp_path, [LastCheckpoint(tmp_path, every_n_minutes=0), Keep(tmp_path)], **options)
    kept = sorted(tmp_path.glob("kept_*.ckpt"))
    # Not before an epoch's first batch, nor the end.
    assert len(kept) == {1: 6, 2: 2}[accumulated]
    for path in kept if accumulated > 1 else kept[::2]:
        resumed = tiny_module()
        fit(resumed, tmp_path, [], ckpt_path=path, **options)
        assert not differing(copy_of(whole), copy_of(resumed)), path.name


def test_without_minutes_it_is_written_at_validations_only(tmp_path: Path):
    fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path, every_n_minutes=None), Keep(tmp_path)])
    assert [path.name for path in tmp_path.glob("kept_*.ckpt")] == ["kept_4.ckpt"]
    fit(tiny_module(), tmp_path / "ten", [LastCheckpoint(tmp_path / "ten"), Keep(tmp_path / "ten")])
    assert [path.name for path in (tmp_path / "ten").glob("kept_*.ckpt")] == ["kept_4.ckpt"]


@pytest.mark.parametrize("minutes", [-1, "often", True])
def test_minutes_that_are_no_time_are_refused(minutes, tmp_path: Path):
    with pytest.raises(UserError, match=f"callbacks.last.every_n_minutes={minutes} must be a number from 0 up"):
        LastCheckpoint(tmp_path, every_n_minutes=minutes)


class FailAtBatch(Callback):
    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        if batch_idx == self.batch:
            raise RuntimeError("in training")


def test_an_interrupted_accumulation_starts_again(tmp_path: Path):
    """The gradients of its first batches are in no checkpoint."""
    options = {"max_steps": 4, "accumulate_grad_batches": 2}
    whole, resumed = tiny_module(), tiny_module()
    first = copy.deepcopy(whole)
    fit(whole, tmp_path, [], **options)
    with pytest.raises(RuntimeError):
        fit(first, tmp_path, [LastCheckpoint(tmp_path), FailAtBatch(3)], **options)
    fit(resumed, tmp_path, [], ckpt_path=tmp_path / "last.ckpt", **options)
    # The statistics of a random encoder's batch normalisation have moved with the first batches; weights have not.
    different = differing(copy_of(whole), copy_of(resumed))
    assert not {name for name in different if "running_" not in name and "num_batches" not in name}


def test_a_state_within_an_optimiser_step_is_not_written(tmp_path: Path):
    """Some weights are updated by then and others are not."""
    module = tiny_module()
    step = torch.optim.AdamW.step

    def failing(self, *arguments, **options):
        result = step(self, *arguments, **options)
        if module.trainer.global_step == 5:
            raise RuntimeError("in the step")
        return result

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="in the step"):
        patch.setattr(torch.optim.AdamW, "step", failing)
        fit(module, tmp_path, [LastCheckpoint(tmp_path)])
    assert step_of(tmp_path) == 4


def test_two_generations_are_kept(tmp_path: Path):
    fit(tiny_module(), tmp_path, [LastCheckpoint(tmp_path)])
    assert step_of(tmp_path) == 8
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True)["global_step"] == 4
