"""Weights to share: one small file, which every command takes as checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from helpers import complaint, run_command
from random_checkpoint import write_random_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from restoration import weights_file
from restoration.checkpoint_file import read_checkpoint
from restoration.errors import UserError
from restoration.export import main
from restoration.restorer import Restorer
from restoration.weights_file import read_weights, write_weights


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with random weights."""
    return write_random_checkpoint(tmp_path)


def test_the_file_holds_the_restorer_in_half_the_size(checkpoint: Path, tmp_path: Path):
    path = tmp_path / "photo.safetensors"
    assert run_command(main, f"checkpoint={checkpoint}", f"output={path}") == 0
    assert path.stat().st_size < 0.65 * checkpoint.stat().st_size
    assert path.stat().st_mode == checkpoint.stat().st_mode  # others may read it
    original, shared = Restorer.load(checkpoint), Restorer.load(path)
    for (name, value), other in zip(original.state_dict().items(), shared.state_dict().values(), strict=True):
        assert other.dtype == value.dtype
        exact = value.to(torch.bfloat16).float() if value.ndim > 1 and value.is_floating_point() else value
        assert torch.equal(other, exact), name
    image = torch.rand(1, 3, 32, 32)
    difference = original.restore(image, torch.arange(1), 1).images - shared.restore(image, torch.arange(1), 1).images
    assert difference.abs().max() < 0.05
    # Nothing of the machine that trained it.
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    assert not {"folder", "callbacks", "logger"} & set(config) and set(config["trainer"]) == {"precision"}
    assert config["run"]["images_seen"] == 640 and shared.config["backbone"] == original.config["backbone"]


def test_a_weights_file_is_data(checkpoint: Path, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(read_checkpoint(checkpoint), path)
    content = read_weights(path)
    content["config"]["sampler"] = {"_target_": "os.system", "command": "true"}
    save_file(load_file(path), path, {"config": json.dumps(content["config"])})
    with pytest.raises(UserError, match="os.system"):
        Restorer.load(path)
    for broken in (b"", b"nothing", path.read_bytes()[:-100]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="not a checkpoint of this project, or is damaged"):
            Restorer.load(path)


def test_without_a_path_the_weights_of_the_package_are_loaded(checkpoint: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(weights_file, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match="comes without weights"):
        Restorer.load()
    (tmp_path / "weights").mkdir()
    write_weights(read_checkpoint(checkpoint), tmp_path / "weights" / "photo.safetensors")
    assert Restorer.load().config["run"]["images_seen"] == 640


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["checkpoint=best.ckpt", "output=photo.pt"],
            "give a name that ends in .safetensors, .onnx or .pt2",
        ),
        (["checkpoint=none.ckpt", "output=p.safetensors"], "no checkpoint at none.ckpt"),
        (["checkpoint=best.ckpt", "output=there.safetensors"], "already there: there.safetensors; add overwrite=true"),
        (["output=p.safetensors"], "checkpoint"),
    ],
)
def test_a_mistake_is_one_line(checkpoint: Path, arguments: list[str], said: str, monkeypatch, capsys):
    monkeypatch.chdir(checkpoint.parent)
    Path("there.safetensors").write_text("mine")
    assert run_command(main, *arguments) == 2
    assert said in complaint(capsys) and Path("there.safetensors").read_text() == "mine"
