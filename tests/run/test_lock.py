"""One process per run folder: from the first moment to the end of the process, however it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import FEW_PASSES, TINY, complaint, composed, run_command

from restoration.errors import UserError
from restoration.run.lock import locked
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=2"]
OTHER = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_process_keeps_it_until_it_is_killed(desk: Path):
    with locked(desk):
        pass
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(desk / ".lock")], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"is in use by process \d+ on .*; wait for its end, or choose"):
            with locked(desk):
                pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with locked(desk):
        pass


def test_a_forked_worker_does_not_keep_it(desk: Path):
    """It may outlive a killed process."""
    forked = multiprocessing.get_context("fork")
    begun = forked.Event()
    with locked(desk):
        worker = forked.Process(target=lambda: (begun.set(), time.sleep(60)))
        worker.start()
        assert begun.wait(30)
    try:
        with locked(desk):
            assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


@pytest.mark.parametrize("resume", ["false", "auto", "true"])
def test_a_second_run_in_the_folder_is_refused_and_writes_nothing(resume: str, capsys: pytest.CaptureFixture[str]):
    RUN.mkdir(parents=True)
    (RUN / "train.log").write_text("of the first\n")
    with locked(RUN):
        before = {path: path.read_bytes() for path in RUN.rglob("*")}
        assert run_command(main, *JOB, f"resume={resume}") == 2
        assert {path: path.read_bytes() for path in RUN.rglob("*")} == before
    assert complaint(capsys).startswith(f"{RUN.absolute()} is in use by process ")


def test_a_run_that_ended_before_its_first_checkpoint(capsys: pytest.CaptureFixture[str]):
    """Its folder is taken for a new run; resume=auto starts it again."""
    assert run_command(main, *JOB, "data.train_images=0") == 2
    assert not (RUN / "config.yaml").exists()  # a mistake in the config does not take the name
    capsys.readouterr()
    (RUN / "config.yaml").write_text("seed: 0\n")
    assert run_command(main, *JOB) == 2
    assert complaint(capsys).endswith("holds a run; choose another name=…, or continue it with resume=auto")
    assert run_command(main, *JOB, "resume=auto") == 0
    assert (RUN / "metrics.json").exists()


def test_further_processes_of_a_run_share_its_folder(desk: Path, monkeypatch: pytest.MonkeyPatch):
    with locked(desk):
        for name in ("SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"):
            with monkeypatch.context() as process:
                process.setenv(name, "1")
                with locked(desk):
                    pass


def test_names_of_one_second_differ():
    names = []
    for _ in range(2):
        with composed("train") as config:
            names.append(config.name)
    assert names[0] != names[1]


def test_a_folder_that_cannot_be_written(desk: Path):
    (desk / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be written: "), locked(desk / "file"):
        pass


@pytest.mark.parametrize("given, place", [([], "."), (["hydra.run.dir='there/run'"], "there")])
def test_run_folders_that_cannot_be_made(
    given: list[str], place: str, desk: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    """As in a read-only file system, which binds the superuser too."""
    (desk / "there").mkdir()
    refused = (desk / place).absolute()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != refused)
    assert run_command(main, *JOB, *given) == 2
    assert complaint(capsys) == f"{refused} cannot be written; start in another folder, or give hydra.run.dir=FOLDER"
    assert not (desk / "outputs").exists()
