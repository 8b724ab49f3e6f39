"""A training without enough memory ends in one line that names a batch size which fits."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import CONF, FEW_PASSES, TINY, complaint, last, run_command

from restoration.objective import Objective
from restoration.run import memory
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=4", "trainer.val_check_interval=2"]
CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def limit(
    monkeypatch: pytest.MonkeyPatch, images: int, error: Exception, after: int = 0, training: bool = True
) -> None:
    """Calls of the objective with more images fail, after some that do not."""
    calls, forward = [], Objective.forward

    def limited(self, restorer, batch, keys, progress):
        if torch.is_grad_enabled() == training:
            calls.append(len(batch))
            if len(calls) > after and len(batch) > images:
                raise error
        return forward(self, restorer, batch, keys, progress)

    monkeypatch.setattr(Objective, "forward", limited)
    monkeypatch.setattr(memory, "_MEASURED", ("cpu",))


def test_a_batch_size_that_fits_is_named(monkeypatch, capsys: pytest.CaptureFixture[str]):
    limit(monkeypatch, 2, torch.OutOfMemoryError("CUDA out of memory."), after=2)
    assert run_command(main, *JOB) == 2
    said = "out of memory at data.batch_size=4: 2 fits. Start a new run with data.batch_size=2 "
    assert complaint(capsys) == f"{said}trainer.accumulate_grad_batches=2, which keeps the images of a step"
    assert last(RUN)["global_step"] == 2


@pytest.mark.slow
def test_nothing_fits(monkeypatch, capsys: pytest.CaptureFixture[str]):
    limit(monkeypatch, 0, RuntimeError(CPU_ERROR))
    assert run_command(main, *JOB) == 2
    assert complaint(capsys).startswith("out of memory at data.batch_size=4, and at every smaller one: make data.")


@pytest.mark.slow
def test_in_validation_the_other_key_is_named(monkeypatch, capsys: pytest.CaptureFixture[str]):
    limit(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory."), after=2, training=False)
    assert run_command(main, *JOB) == 2
    assert complaint(capsys) == "out of memory in validation: make data.eval_batch_size=4 smaller"


@pytest.mark.slow
def test_another_error_keeps_its_traceback(monkeypatch):
    limit(monkeypatch, 0, RuntimeError("a bug"))
    assert run_command(main, *JOB, "trainer.val_check_interval=4") == 1


@pytest.mark.slow
def test_a_process_with_little_memory(desk: Path):
    """A real limit of the address space, set when training starts."""
    script = f"""
import resource, sys
from restoration.run import fit
from restoration.run import memory
from restoration.train import main
whole = fit.Trainer.fit
def limited(self, *given, **named):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (400 << 20),) * 2)
    return whole(self, *given, **named)
fit.Trainer.fit = limited
sys.argv = ["train", *{[*JOB, "data.batch_size=1024", "data.train_images=1024", "data.image_size=32"]}]
main()
"""
    environment = {"PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    said = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert said.startswith("error: out of memory at data.batch_size=1024: 512 may fit. Start a new run with ")
