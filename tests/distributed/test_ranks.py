"""Several processes are one: two ranks train and validate as one process with the same images per step."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Kill, callback_file, differing, encoder_file, last, rows
from lightning.pytorch import Callback, LightningModule, Trainer
from processes import start, wait
from ranks import RUN, free_port, job, said, start_nodes
from torch import distributed

from restoration.batch import Batch

TIMES = ("train/time", "train/samples", "test/images_per_second")


class Weights(Callback):
    """Writes this rank's weights at every step, one file for each rank."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.steps.append({name: value.clone() for name, value in pl_module.restorer.state_dict().items()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_batch_start(trainer, pl_module)
        torch.save(self.steps, f"rank_{trainer.global_rank}.pt")


class KillRanks(Kill):
    """Sends SIGTERM to the last rank only; the others must stop with it."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._kill(trainer, trainer.global_rank == trainer.world_size - 1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def one(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process: two stages, two epochs, averaged weights."""
    folder = tmp_path_factory.mktemp("one")
    assert wait(start(folder, job(weights, 1))) == [0], said(folder)
    return folder


@pytest.fixture(scope="module")
def two(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by two nodes of one process each, half the batch size each."""
    folder = tmp_path_factory.mktemp("two")
    flags = callback_file(folder / "conf", "test_ranks.Weights")
    assert wait(*start_nodes(folder, [*flags, *job(weights, 2), "callbacks=extended"])) == [0, 0], said(folder)
    return folder


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    assert left.keys() == right.keys()
    return all(
        float((left[name] - right[name]).double().norm()) <= 1e-5 * float(left[name].double().norm()) for name in left
    )


@pytest.mark.slow
def test_two_ranks_are_one_process(one: Path, two: Path):
    """Across the unfreeze at step 3: every logged figure and the weights, averaged and raw."""
    for key in ("state_dict", "current_model_state"):
        assert close(last(one / RUN)[key], last(two / RUN)[key]), key
    compared = 0
    for left, right in zip(rows(one / RUN), rows(two / RUN), strict=True):
        assert left.keys() == right.keys()
        for name, value in left.items():
            if value and not name.startswith(TIMES):
                assert float(value) == pytest.approx(float(right[name]), rel=1e-5, abs=1e-8), (left["step"], name)
                compared += 1
    assert compared > 150 and {"val/loss", "val/psnr", "val/frechet", "train/loss"} <= set(rows(one / RUN)[0])


@pytest.mark.slow
def test_the_ranks_stay_equal_after_the_unfreeze(two: Path):
    """DDP averages the gradients of the parameters that were frozen first, too; frozen ones do not move."""
    first, second = (torch.load(two / f"rank_{rank}.pt") for rank in (0, 1))
    assert len(first) == len(second) == 7
    for left, right in zip(first, second, strict=True):
        assert not differing(left, right)
    encoder = {name for name in first[0] if name.startswith("backbone.encoder") and "running" not in name}
    assert encoder and not encoder & differing(first[0], first[3])
    assert len(encoder & differing(first[3], first[6])) > len(encoder) // 2


@pytest.mark.slow
def test_only_the_first_rank_writes(two: Path):
    assert len((two / "output_1.txt").read_text().splitlines()) <= 2  # PyTorch's warning about stage 2
    names = {path.name for path in (two / RUN).iterdir()}
    assert not any("process" in name for name in names) and "config.yaml" in names
    assert json.loads((two / RUN / "metrics.json").read_text())["run"]["images_seen"] == 48
    assert len({row["step"] for row in rows(two / RUN)}) == 7


@pytest.mark.slow
def test_ranks_stop_together_and_continue_bit_for_bit(weights: Path, two: Path, tmp_path: Path):
    flags = callback_file(tmp_path / "conf", "test_ranks.KillRanks", step=3)
    command = [*flags, *job(weights, 2), "resume=auto", "trust=test_ranks"]
    assert wait(*start_nodes(tmp_path, [*command, "callbacks=extended"])) == [143, 0], said(tmp_path)
    assert "stopped; continue with: python -m restoration.train" in said(tmp_path)
    assert 3 <= last(tmp_path / RUN)["global_step"] <= 4
    assert wait(*start_nodes(tmp_path, command)) == [0, 0], said(tmp_path)
    for key in ("state_dict", "current_model_state"):
        assert not differing(last(tmp_path / RUN)[key], last(two / RUN)[key])


@pytest.mark.slow
def test_lightning_starts_the_second_process(weights: Path, two: Path, tmp_path: Path):
    command = [sys.executable, "-m", "restoration.train", *job(weights, 2), "trainer.devices=2"]  # without trainer=ddp
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert not differing(last(tmp_path / RUN)["state_dict"], last(two / RUN)["state_dict"])
    assert ended.stdout.count("run folder: ") == 1


def _share(rank: int, port: int, check: Callable[[Batch, int], None]) -> None:
    store = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    images, (first, count) = torch.zeros(5, 3, 4, 4), ((0, 3), (3, 2))[rank]
    index = torch.arange(5)[first : first + count]
    part = images[:count]
    check(Batch(part, part, part[:, :1] > 0, part[:, 0, 0, 0], index, place=(first, 5)), rank)


def _check(batch: Batch, rank: int) -> None:
    assert int(batch.leading(batch.index + 10)) == 10 and batch.count == 5
    assert batch.summed(torch.tensor(len(batch))) == 5
    assert batch.averaged(batch.index.float().mean()) == 2.0
    assert batch.first(1).place == (3 * rank, 5)


def test_keys_and_means_over_uneven_ranks():
    port, children = free_port(), []
    for rank in (0, 1):
        if not (child := os.fork()):
            status = 1
            try:
                signal.alarm(60)
                _share(rank, port, _check)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
