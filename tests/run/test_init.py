"""init=: training that starts from the weights of a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import FEW_PASSES, TINY, complaint, last, run_command

from restoration.checkpoint_file import read_checkpoint
from restoration.export import main as export
from restoration.restorer import Restorer
from restoration.run.checkpoint import initialize
from restoration.train import main

JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.val_check_interval=2", "trainer.max_steps=4"]
RUN = Path("outputs/blur_erase")
FILE = RUN / "first/checkpoints/best.ckpt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of one run."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(main, *JOB, "name=first") == 0
    return folder


@pytest.fixture(autouse=True)
def desk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", [str(FILE), str(RUN / "first"), "weights.safetensors"])
def test_a_run_that_does_not_move_has_the_weights_it_started_from(file: str):
    if file.endswith(".safetensors"):
        assert run_command(export, f"checkpoint={FILE}", f"output={file}") == 0
    still = ["optimizer.lr=0", "optimizer.weight_decay=0", "callbacks.staged_unfreezing=null"]
    assert run_command(main, *JOB, "name=second", f"init={file}", *still) == 0
    before = read_checkpoint(file if file.endswith(".safetensors") else FILE)["state_dict"]
    after = last(RUN / "second")["state_dict"]
    for name, value in before.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(after[name], value, atol=0, rtol=0)
    report = json.loads((RUN / "second/metrics.json").read_text())["run"]
    assert report["images_seen"] == 16 + 16


def test_a_resumed_run_has_its_own_weights(capsys: pytest.CaptureFixture[str]):
    job = [*JOB, "name=second", f"init={FILE}"]
    assert run_command(main, *job) == 0
    own = last(RUN / "second")["state_dict"]
    assert run_command(main, *job, "resume=auto", "trainer.max_steps=6", "optimizer.lr=0") == 2  # another run's
    assert "optimizer.lr" in complaint(capsys)
    assert run_command(main, *job, "resume=auto", "trainer.max_steps=6", "callbacks.ema=null") == 2
    assert "callbacks.ema" in complaint(capsys)
    FILE.unlink()
    assert run_command(main, *job, "resume=auto", "trainer.max_steps=6") == 0
    assert last(RUN / "second")["global_step"] == 6
    assert any((own[name] != value).any() for name, value in last(RUN / "second")["state_dict"].items())
    assert run_command(main, *JOB, "name=second", "init=other.ckpt", "resume=auto", "trainer.max_steps=8") == 2
    assert "resume: this run has init=" in complaint(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [f"init={FILE}", "estimator.width=24"],
            "choose the checkpoint's backbone, estimator and source",
        ),
        (["init=missing.ckpt"], "missing.ckpt"),
        (["init=outputs"], "final.ckpt"),
        (["init=3"], "3"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert run_command(main, *JOB, "name=second", *arguments) == 2
    assert said in complaint(capsys)
    assert not (RUN / "second/checkpoints").exists()


def test_weights_that_only_the_new_network_has_stay(caplog: pytest.LogCaptureFixture):
    restorer = Restorer.load(FILE)
    restorer.backbone.new = torch.nn.Linear(2, 2)
    before = restorer.backbone.new.weight.clone()
    with caplog.at_level("INFO"):
        initialize(restorer, FILE)
    assert (restorer.backbone.new.weight == before).all() and "2 tensors are new" in caplog.text


def test_one_step_follows_the_flow_that_it_starts_from(capsys: pytest.CaptureFixture[str]):
    """Its images count once, its weights are not saved again, and a resumed run may find it elsewhere."""
    job = ["experiment=one_step_blur_erase", *JOB[1:], f"init={RUN}/first", "name=one", "evaluation.nfe=[1,2]"]
    assert run_command(main, *job) == 0
    run = Path("outputs/one_step_blur_erase/one")
    assert json.loads((run / "metrics.json").read_text())["run"]["images_seen"] == 16 + 16
    assert not [name for name in last(run)["state_dict"] if "teacher" in name or "terms.trajectory" in name]
    shutil.move(RUN / "first", "moved")
    assert run_command(main, *job, "resume=auto", "trainer.max_steps=6") == 2
    assert f"no checkpoint at {RUN}/first" in complaint(capsys)
    assert (
        run_command(main, *job, "resume=auto", "trainer.max_steps=6", "objective.terms.trajectory.teacher=moved") == 0
    )
    assert last(run)["global_step"] == 6
