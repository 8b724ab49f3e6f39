"""Weights files open through spandrel, as ComfyUI and chaiNNer open models."""

import json
from pathlib import Path

import pytest
import torch
from random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file

from restoration.errors import UserError
from restoration.restorer import Restorer

spandrel = pytest.importorskip("spandrel")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from restoration.spandrel import register

    register()
    register()
    Restorer.load(write_random_checkpoint(tmp_path)).save(tmp_path / "photo.safetensors")
    return tmp_path / "photo.safetensors"


def test_spandrel_opens_a_weights_file(path: Path):
    model = spandrel.ModelLoader().load_from_file(path)
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.architecture.id, model.purpose, model.scale) == ("restoration", "Restoration", 1)
    image = torch.rand(1, 3, 37, 50)
    wanted = Restorer.load(path).restore(image, torch.zeros(1, dtype=torch.int64), 1).images
    assert torch.equal(model(image), wanted) and (wanted - image).std() > 1e-3


def test_a_config_for_spandrel_is_data(path: Path):
    state = load_file(path)
    config = json.loads(bytes(state["config"].tolist()))
    config["sampler"] = {"_target_": "os.system", "command": "true"}
    state["config"] = torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)
    save_file(state, path)
    with pytest.raises(UserError, match="os.system.*nothing was executed"):
        spandrel.ModelLoader().load_from_file(path)
