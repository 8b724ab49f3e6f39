"""How batches are divided over ranks, and which strategy several devices use."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import TINY, complaint, composed, run_command, tiny_data

from restoration.errors import UserError
from restoration.run.hardware import first_process
from restoration.run.resolve import describe_run, resolve
from restoration.train import main


def validation(rank: int, world: int, images: int, size: int) -> list[torch.Tensor]:
    data = replace(tiny_data(), selection_images=images, eval_batch_size=size)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
    data.prepare_data()
    return [batch["rows"] for batch in data.val_dataloader()]


@pytest.mark.parametrize(("images", "size"), [(8, 4), (9, 4), (11, 4), (13, 12), (3, 8)])
@pytest.mark.parametrize("world", [2, 3])
def test_each_validation_image_belongs_to_one_rank(images: int, size: int, world: int):
    """Ranks meet in each batch, so all have the same number of batches, none of them empty."""
    ranks = [validation(rank, world, images, size) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1 and all(len(rows) for rank in ranks for rows in rank)
    assert torch.cat([torch.cat(parts) for parts in zip(*ranks, strict=True)]).tolist() == list(range(images))


def test_too_few_images_for_the_ranks_are_refused():
    with pytest.raises(UserError, match="data.eval_batch_size=2 and the 8 validation images are divided over 3 device"):
        validation(0, 3, 8, 2)


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        (["trainer.devices=2"], "ddp_find_unused_parameters_true"),
        (["trainer=ddp", "trainer.devices=2"], "ddp_find_unused_parameters_true"),
        (["trainer.devices=2", "trainer.strategy=ddp"], "ddp"),
        ([], None),
    ],
)
def test_several_devices_allow_a_frozen_encoder(given: list[str], strategy: str | None):
    with composed("train", *TINY, *given, "trainer.accelerator=cpu") as config:
        config.folder = "unused"
        describe_run(config)
        assert resolve(config)["trainer"].get("strategy") == strategy


def test_a_sweep_with_processes_of_lightning_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, *TINY, "trainer.devices=2", "seed=0", flags=["-m"]) != 0
    assert "a sweep (-m) cannot start 2 processes per job; use trainer.devices=1" in capsys.readouterr().err


def test_other_processes_than_devices_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """As in a Slurm job of one task."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert run_command(main, *TINY, "trainer.devices=2") == 2
    assert "You set `devices=2` in Lightning, but the number of tasks per node configured in SLURM" in complaint(capsys)


@pytest.mark.parametrize("name", ["SLURM_PROCID", "RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_RANK"])
def test_the_first_process_is_known_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch):
    assert first_process()
    monkeypatch.setenv(name, "0")
    assert first_process()
    monkeypatch.setenv(name, "1")
    assert not first_process()
