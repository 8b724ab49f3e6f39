"""Snapshots are spread evenly over a run of any length, hold the averaged weights, and go on after a resume."""

from pathlib import Path

import pytest
import torch
from helpers import FEW_PASSES, TINY, last, run_command

from restoration.callbacks import Snapshots
from restoration.restorer import Restorer
from restoration.train import main

JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "callbacks=one_step"]


class Trainer:
    """Counts steps and writes empty files."""

    sanity_checking = fast_dev_run = False
    is_global_zero = True
    global_step = 0

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        assert weights_only
        path.touch()


@pytest.mark.parametrize("validations", [1, 3, 4, 5, 9, 10, 33])
def test_files_are_evenly_spread(validations: int, tmp_path: Path):
    trainer, snapshots = Trainer(), Snapshots(tmp_path, keep=4)
    for _ in range(validations):
        trainer.global_step += 100
        snapshots.on_validation_end(trainer, None)  # type: ignore[arg-type]
        resumed = Snapshots(tmp_path, keep=4)
        resumed.load_state_dict(snapshots.state_dict())
        snapshots = resumed
    steps = sorted(int(path.stem.removeprefix("step_")) for path in tmp_path.iterdir())
    stride = steps[0]
    assert steps == list(range(stride, stride * (len(steps) + 1), stride))
    assert min(validations, 2) <= len(steps) <= 4 and steps[-1] > 100 * validations - stride


def test_a_run_leaves_averaged_weights_of_its_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    job = [*JOB, "trainer.val_check_interval=1", "callbacks.snapshots.keep=3"]
    assert run_command(main, *job, "trainer.max_steps=3") == 0
    folder = Path("outputs/blur_erase/run")
    names = ["step_0000001.ckpt", "step_0000002.ckpt", "step_0000003.ckpt"]
    assert sorted(path.name for path in folder.glob("checkpoints/step_*")) == names
    averaged = last(folder)["state_dict"]
    for name, value in Restorer.load(folder / "checkpoints" / names[-1]).state_dict().items():
        torch.testing.assert_close(averaged[f"restorer.{name}"], value, atol=0, rtol=0)
    assert run_command(main, *job, "trainer.max_steps=4", "resume=auto") == 0
    assert sorted(path.name for path in folder.glob("checkpoints/step_*")) == ["step_0000002.ckpt", "step_0000004.ckpt"]
