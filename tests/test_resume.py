"""A run that is stopped and resumed ends where the uninterrupted one does, bit for bit."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from helpers import FEW_PASSES, TINY, complaint, encoder_file, last, run_command, callback_file
from restoration.train import main

# Six steps an epoch, 14 steps: two epochs and a third. Stage 2 starts at step 7, in the middle of an epoch;
# validation, on two batches, comes at steps 4, 8 and 12.
JOB = [
    "experiment=blur_erase",
    *TINY,
    *FEW_PASSES,
    "trainer.max_steps=14",
    "trainer.val_check_interval=4",
    "callbacks.staged_unfreezing.share=0.5",
]


def run(
    folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, flags: Sequence[str] = ()
) -> tuple[int, Path]:
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    status = run_command(main, *JOB, f"backbone.encoder.weights={weights}", *arguments, flags=flags)
    return status, folder / "outputs" / "blur_erase" / "run"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def validations(folder: Path) -> dict[int, dict[str, str]]:
    """What every validation logged, by step; the latest word on a step counts."""
    return {
        int(row["step"]): {name: value for name, value in row.items() if name.startswith("val/")}
        for row in rows(folder)
        if row.get("val/psnr_nfe1")
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """The run folder of the uninterrupted run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        status, folder = run(tmp_path_factory.mktemp("whole"), weights, monkeypatch)
    assert status == 0
    return folder


def assert_same_end(resumed: Path, whole: Path) -> None:
    ours, theirs = last(resumed), last(whole)
    assert ours["global_step"] == theirs["global_step"] == 14
    for part in ("state_dict", "current_model_state"):
        assert ours[part].keys() == theirs[part].keys()
        different = [name for name, value in ours[part].items() if not torch.equal(value, theirs[part][name])]
        assert not different, f"{part}: {different}"
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        assert mine["param_groups"] == other["param_groups"]
        for number, state in mine["state"].items():
            assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())
    callbacks = {name: state for name, state in theirs["callbacks"].items() if "ModelCheckpoint" not in name}
    assert {name: ours["callbacks"][name] for name in callbacks} == callbacks
    assert validations(resumed) == validations(whole)


@pytest.mark.parametrize(
    "step, in_validation, stage",
    [(3, False, 1), (9, False, 2), (8, True, 2), (4, True, 1), (6, False, 1)],
    ids=["before the switch", "after the switch", "in validation", "in validation before the switch", "epoch's end"],
)
def test_sigterm_then_resume_ends_as_if_nothing_had_happened(
    step: int, in_validation: bool, stage: int, whole: Path, weights: Path, tmp_path: Path, monkeypatch
):
    kill = callback_file(tmp_path / "conf", "helpers.Kill", step=step, in_validation=in_validation)
    status, folder = run(tmp_path, weights, monkeypatch, "callbacks=extended", flags=kill)
    assert status == 143
    stopped = last(folder)
    assert stopped["global_step"] == step
    (staged,) = (state for name, state in stopped["callbacks"].items() if "StagedUnfreezing" in name)
    assert staged["stage"] == stage
    assert not (folder / "metrics.json").exists()
    before = rows(folder)

    status, folder = run(tmp_path, weights, monkeypatch, "resume=true")
    assert status == 0
    assert_same_end(folder, whole)
    assert rows(folder)[: len(before)] == [
        {**row, **{k: "" for k in rows(folder)[0] if k not in row}} for row in before
    ]
    report, expected = (json.loads((path / "metrics.json").read_text()) for path in (folder, whole))
    assert report["restored"] == expected["restored"] and report["run"]["steps"] == 14
