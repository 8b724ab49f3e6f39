"""A run that is stopped and resumed ends where the uninterrupted one does, bit for bit."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import wandb
from helpers import FEW_PASSES, TINY, callback_file, complaint, encoder_file, last, rows, run_command, without_account

from restoration.train import main

# Six steps an epoch, 14 steps: two epochs and a third. Stage 2 starts at step 7, in the middle of an epoch;
# validation, on two batches, comes at steps 4, 8 and 12, which is an epoch's end.
JOB = [
    "experiment=blur_erase",
    *TINY,
    *FEW_PASSES,
    "trainer.val_check_interval=4",
    "callbacks.staged_unfreezing.share=0.5",
]
EPOCHS = [
    "trainer.max_epochs=3",
    "trainer.val_check_interval=null",
    "callbacks.staged_unfreezing.share=null",
    "callbacks.staged_unfreezing.epoch=1",
]
slow = pytest.mark.slow


def run(
    folder: Path, weights: Path, *arguments: str, flags: Iterable[str] = (), wandb: bool = False
) -> tuple[int, Path]:
    """Runs the train command with `folder` as its working directory; the exit status and the run folder."""
    folder.mkdir(exist_ok=True)
    job = [argument for argument in JOB if not (wandb and argument.startswith("logger.wandb"))]
    steps = [] if any("max_" in argument for argument in arguments) else ["trainer.max_steps=14"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status = run_command(main, *job, f"backbone.encoder.weights={weights}", *steps, *arguments, flags=flags)
    return status, folder / "outputs" / "blur_erase" / "run"


def validations(folder: Path) -> dict[int, dict[str, str]]:
    """What every validation logged, by step; the last row of a step counts."""
    return {
        int(row["step"]): {name: value for name, value in row.items() if name.startswith("val/")}
        for row in rows(folder)
        if row.get("val/psnr_nfe1")
    }


def kept(state: dict[str, dict]) -> dict[str, dict]:
    """The callbacks' states without those of the best checkpoints, which name the folder."""
    return {name: value for name, value in state["callbacks"].items() if "BestCheckpoint" not in name}


def assert_same_end(resumed: Path, whole: Path) -> None:
    ours, theirs = last(resumed), last(whole)
    assert ours["global_step"] == theirs["global_step"]
    for part in ("state_dict", "current_model_state"):  # the average and the raw weights
        assert ours[part].keys() == theirs[part].keys()
        different = [name for name, value in ours[part].items() if not torch.equal(value, theirs[part][name])]
        assert not different, f"{part}: {len(different)} of {len(ours[part])} differ, such as {different[0]}"
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        assert mine["param_groups"] == other["param_groups"]
        for number, state in mine["state"].items():
            assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())
    assert kept(ours) == kept(theirs)
    assert validations(resumed) == validations(whole)
    report, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (resumed, whole))
    assert report["restored"]["psnr"] == expected["restored"]["psnr"]
    assert report["run"]["steps"] == expected["run"]["steps"] == theirs["global_step"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The run folder of the uninterrupted run, with its diary."""
    folder = tmp_path_factory.mktemp("whole")
    flags = callback_file(folder / "conf", "helpers.Diary", path=folder / "diary.txt")
    status, folder = run(folder, weights, "callbacks=extended", flags=flags)
    assert status == 0
    return folder


def test_the_uninterrupted_run_sees_every_image_once_an_epoch(whole: Path):
    steps = [[int(word) for word in line.split()] for line in (whole.parents[2] / "diary.txt").read_text().splitlines()]
    assert [step[0] for step in steps] == list(range(14))
    epochs = [[index for step in steps if step[1] == epoch for index in step[2:]] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(24)) and epochs[0] != epochs[1]


@pytest.mark.parametrize(
    "step, in_validation, stage",
    [
        pytest.param(3, False, 1, id="before the switch", marks=slow),
        pytest.param(9, False, 2, id="after the switch"),
        pytest.param(8, True, 2, id="in validation"),
        pytest.param(4, True, 1, id="in validation before the switch", marks=slow),
        pytest.param(6, False, 1, id="at an epoch's end"),
        pytest.param(12, False, 2, id="at an epoch's end with validation to come", marks=slow),
    ],
)
def test_sigterm_then_resume_ends_as_the_uninterrupted_run(
    step: int, in_validation: bool, stage: int, whole: Path, weights: Path, tmp_path: Path, monkeypatch
):
    flags = callback_file(tmp_path / "conf", "helpers.Kill", step=step, in_validation=in_validation)
    status, folder = run(tmp_path, weights, "callbacks=extended", flags=flags)
    assert status == 143
    assert (
        "stopped; continue with: python -m restoration.train experiment=blur_erase trust=helpers name=run resume=auto"
        in (folder / "train.log").read_text()
    )
    stopped = last(folder)
    assert stopped["global_step"] == step
    (staged,) = (state for name, state in stopped["callbacks"].items() if "StagedUnfreezing" in name)
    assert staged["stage"] == stage
    assert not (folder / "metrics.json").exists()
    logged = [row["train/loss"] for row in rows(folder) if row["train/loss"]]
    assert len(logged) == step

    # The config comes from the checkpoint, whatever the run was started with.
    monkeypatch.chdir(tmp_path)
    assert run_command(main, "experiment=blur_erase", "name=run", "resume=true", "trust=helpers") == 0
    assert_same_end(folder, whole)
    # metrics.csv was continued: the rows before the stop are there, the others follow without a gap.
    losses = [row["train/loss"] for row in rows(folder) if row["train/loss"]]
    assert losses[:step] == logged
    assert losses == [row["train/loss"] for row in rows(whole) if row["train/loss"]]


@pytest.mark.parametrize("step", [pytest.param(4, marks=slow), 12])
def test_a_power_cut_costs_no_more_than_the_steps_since_the_last_validation(
    step: int, whole: Path, weights: Path, tmp_path: Path
):
    checkpoints = tmp_path / "outputs" / "blur_erase" / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(whole.parents[2] / f"last_{step}.ckpt", checkpoints / "last.ckpt")
    status, folder = run(tmp_path, weights, "resume=true", "trust=helpers")
    assert status == 0
    ours, theirs = last(folder), last(whole)
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, theirs[part][name]) for name, value in ours[part].items())
    assert kept(ours) == kept(theirs)


@pytest.fixture(scope="module")
def whole_epochs(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The run folder of three epochs without a stop."""
    status, folder = run(tmp_path_factory.mktemp("epochs"), weights, *EPOCHS)
    assert status == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("step, in_validation", [(8, False), (6, True), (12, False)])
def test_runs_of_whole_epochs_resume_too(
    step: int, in_validation: bool, whole_epochs: Path, weights: Path, tmp_path: Path
):
    """Lightning then counts the steps by making the training loader; made too early, its first batch would be wrong."""
    flags = callback_file(tmp_path / "conf", "helpers.Kill", step=step, in_validation=in_validation)
    assert run(tmp_path, weights, *EPOCHS, "callbacks=extended", flags=flags)[0] == 143
    status, resumed = run(tmp_path, weights, *EPOCHS, "resume=true", "trust=helpers")
    assert status == 0
    assert_same_end(resumed, whole_epochs)


@pytest.mark.parametrize(
    "asked, said",
    [
        ("seed=1", "resume: this run has seed=0, not 1; leave it out, or start a new run"),
        ("backbone.widths=[32,16,16,16]", "this run has backbone.widths=[16, 16, 16, 16], not [32, 16, 16, 16]"),
        ("source=degraded", "this run has source._target_=restoration.flow.Noise, not restoration.flow.Degraded"),
        ("ablation=draws_4", "this run has ablation=None, not draws_4; leave it out"),
    ],
)
def test_a_different_run_is_not_resumed(
    asked: str, said: str, whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(whole.parents[2])
    before = (whole / "config.yaml").read_text()
    assert run_command(main, "experiment=blur_erase", "name=run", "resume=true", "trust=helpers", asked) == 2
    assert said in complaint(capsys)
    assert (whole / "config.yaml").read_text() == before


def test_a_moved_run_resumes_in_its_new_folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moved = tmp_path / "outputs" / "blur_erase" / "moved"
    shutil.copytree(whole, moved)
    monkeypatch.chdir(tmp_path)
    before = last(whole)["global_step"]
    assert (
        run_command(main, "experiment=blur_erase", "name=moved", "resume=true", "trust=helpers", "trainer.max_steps=16")
        == 0
    )
    assert last(moved)["global_step"] == 16 and last(whole)["global_step"] == before == 14
    assert json.loads((moved / "metrics.json").read_text())["run"]["name"] == "moved"


def test_a_finished_run_continues_with_more_steps(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_account(monkeypatch, tmp_path)
    flags = callback_file(tmp_path / "conf", "helpers.Diary", path=tmp_path / "diary.txt")
    wandb.teardown()
    try:
        # It ends with an epoch: the next one must neither be skipped nor start in its middle.
        more = {"flags": flags, "wandb": True}
        status, folder = run(tmp_path, weights, "callbacks=extended", "trainer.max_steps=6", **more)
        assert status == 0
        first, name = rows(folder), (folder / "wandb_run_id.txt").read_text().strip()
        status, folder = run(
            tmp_path, weights, "callbacks=extended", "trainer.max_steps=9", "resume=true", "trust=helpers", **more
        )
        assert status == 0
    finally:
        wandb.finish()
        wandb.teardown()
    steps = [[int(word) for word in line.split()] for line in (tmp_path / "diary.txt").read_text().splitlines()]
    assert [step[:2] for step in steps] == [[step, step // 6] for step in range(9)]
    assert last(folder)["global_step"] == 9
    assert [row["train/loss"] for row in rows(folder)][: len(first)] == [row["train/loss"] for row in first]
    # One W&B run: the same id twice (offline it has a folder for each start; W&B joins them).
    assert (folder / "wandb_run_id.txt").read_text().strip() == name
    assert [path.name.endswith(f"-{name}") for path in (folder / "wandb").glob("offline-run-*")] == [True, True]
