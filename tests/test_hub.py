"""push_to_hub and from_hub, on a server of this machine and on a folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT, TOKEN, Hub, hub
from huggingface_hub import constants
from random_checkpoint import write_random_checkpoint
from safetensors.torch import load_file, save_file

from restoration.checkpoint_file import read_checkpoint
from restoration.errors import UserError
from restoration.restorer import Restorer
from restoration.weights_file import read_weights


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str, token: str | None) -> None:
    """What HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN do where they are set before Python starts."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no_token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub() as server:
        use(monkeypatch, tmp_path, server.address, TOKEN)
        yield server


@pytest.fixture
def restorer(tmp_path: Path) -> Restorer:
    return Restorer.load(write_random_checkpoint(tmp_path))


def restored(restorer: Restorer) -> torch.Tensor:
    torch.manual_seed(1)
    return restorer.restore(torch.rand(1, 3, 32, 32), torch.arange(1), 2).images


def test_what_is_pushed_comes_back(restorer: Restorer, server: Hub, tmp_path: Path):
    assert restorer.push_to_hub("me/photo") == f"{server.address}/me/photo/commit/{COMMIT}"
    assert list(server.repos["me/photo"]) == ["model.safetensors"]
    again = Restorer.from_hub("me/photo")
    restorer.save(tmp_path / "own.safetensors")
    assert torch.equal(restored(again), restored(Restorer.load(tmp_path / "own.safetensors")))
    assert (restored(again) - restored(restorer)).abs().max() < 0.1  # rounded to bfloat16
    assert again.config["run"]["images_seen"] == 640 and "folder" not in again.config
    # What came from the Hub is pushed again without a change, under a name without an owner too.
    again.push_to_hub("copy")
    assert server.repos["me/copy"] == server.repos["me/photo"]
    # It stays in the cache: without a network, and without a second download.
    gets = [line for line in server.log if line.startswith("GET")]
    Restorer.from_hub("me/photo", revision="main")
    assert [line for line in server.log if line.startswith("GET")] == gets


@pytest.mark.slow
def test_the_server_of_the_environment_is_asked(restorer: Restorer, server: Hub, tmp_path: Path):
    restorer.push_to_hub("me/photo")
    code = "from restoration import Restorer; print(Restorer.from_hub('me/photo').config['run']['images_seen'])"
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
    }
    asked = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout == "640\n"


def test_a_folder_works_like_a_repository(restorer: Restorer, tmp_path: Path):
    restorer.save(tmp_path / "model.safetensors")
    assert torch.equal(restored(Restorer.from_hub(tmp_path)), restored(Restorer.load(tmp_path / "model.safetensors")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no checkpoint at .*model.safetensors"):
        Restorer.from_hub(tmp_path / "empty")


def test_a_strangers_file_is_data(restorer: Restorer, server: Hub, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    restorer.save(path)
    config = {**read_weights(path)["config"], "sampler": {"_target_": "os.system", "command": "true"}}
    save_file(load_file(path), path, {"config": json.dumps(config)})
    server.repos["stranger/photo"] = {"model.safetensors": path.read_bytes()}
    with pytest.raises(UserError, match="os.system.*nothing was executed"):
        Restorer.from_hub("stranger/photo")


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "repo, revision, said",
    [
        ("me/none", None, "me/none: no such repository on the Hub, or it is private; check the name, or log in"),
        ("me/empty", None, "me/empty has no model.safetensors; give a repository that push_to_hub wrote"),
        ("me/empty", "v9", "me/empty has no such revision; give a branch, a tag or a commit"),
        ("a/b/c", None, "a/b/c: give a repository as owner/name, or a folder that exists"),
    ],
)
def test_what_is_not_there_is_one_line(server: Hub, repo: str, revision: str | None, said: str):
    server.repos["me/empty"] = {}
    with pytest.raises(UserError) as error:
        Restorer.from_hub(repo, revision)
    assert one_line(error).startswith(said)


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_an_upload_without_its_token_is_one_line(
    restorer: Restorer, server: Hub, token: str | None, monkeypatch, tmp_path
):
    use(monkeypatch, tmp_path, server.address, token)
    with pytest.raises(UserError, match="me/photo: .*log in with `hf auth login`, or set HF_TOKEN") as error:
        restorer.push_to_hub("me/photo")
    one_line(error)
    assert not server.repos


def test_no_network_is_one_line(restorer: Restorer, tmp_path: Path, monkeypatch):
    use(monkeypatch, tmp_path, "http://127.0.0.1:9", TOKEN)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it tries five times
    for act in (lambda: restorer.push_to_hub("me/photo"), lambda: Restorer.from_hub("me/photo")):
        with pytest.raises(UserError, match="me/photo.* the Hub cannot be reached.*; check the network") as error:
            act()
        one_line(error)


def test_a_restorer_that_was_never_loaded_has_nothing_to_share(tmp_path: Path):
    config = read_checkpoint(write_random_checkpoint(tmp_path))["config"]
    with pytest.raises(UserError, match="no config; load it from a checkpoint"):
        Restorer.build(config, "random").push_to_hub("me/photo")
