"""Checkpoints of a restorer: they rebuild themselves, or one line says why not."""

import copy

import pytest
import torch

from restoration.errors import UserError
from restoration.restorer import Restorer
from restoration.run.checkpoint import self_contained

CONFIG = {
    "seed": 3,
    "backbone": {
        "_target_": "restoration.backbone.ResNetUNet",
        "encoder": {"_target_": "restoration.backbone.Encoder", "model": "test_resnet", "weights": "random"},
        "widths": [16, 16, 24, 24],
        "depth": 1,
        "embedding": 32,
    },
    "source": {"_target_": "restoration.flow.Degraded", "sigma": 0.4},
    "sampler": {"_target_": "restoration.sampler.Midpoint", "nfe": 4},
    "prediction": {"_target_": "restoration.flow.CleanPrediction", "_partial_": True},
    "estimator": {"_target_": "restoration.estimator.Blind", "width": 16},
}


def write(path, config=CONFIG, **extra) -> Restorer:
    """A checkpoint as Lightning leaves it: the module's state under `restorer.`, and more."""
    restorer = Restorer.build(CONFIG).eval()
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = {f"restorer.{name}": value for name, value in restorer.state_dict().items()}
    torch.save({"config": config, "state_dict": {**state, "other": torch.zeros(1)}, "epoch": 3, **extra}, path)
    return restorer


def test_a_checkpoint_rebuilds_itself(tmp_path):
    saved = write(tmp_path / "best.ckpt")
    loaded = Restorer.load(tmp_path / "best.ckpt")
    assert loaded.config == CONFIG and not loaded.training
    assert loaded.source.noise_level == 0.4 and loaded.sampler.nfe == 4 and loaded.stride == 16
    state = loaded.state_dict()
    assert state.keys() == saved.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in saved.state_dict().items())
    degraded, keys = torch.rand(2, 3, 32, 32), torch.arange(2)
    assert torch.equal(
        Restorer.load(tmp_path / "best.ckpt").restore(degraded, keys).images, saved.restore(degraded, keys).images
    )


def test_loading_needs_no_encoder_weights(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["backbone"]["encoder"]["weights"] = str(tmp_path / "gone.safetensors")
    write(tmp_path / "best.ckpt", config)
    loaded = Restorer.load(tmp_path / "best.ckpt")
    assert loaded.backbone.encoder.pretrained and loaded.config == config


def refused(path) -> str:
    with pytest.raises(UserError) as caught:
        Restorer.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 400
    return message


def test_a_missing_checkpoint_is_named(tmp_path):
    assert "no checkpoint" in refused(tmp_path / "none.ckpt")
    assert "no checkpoint" in refused(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100], ids=["empty", "text", "zip"]
)
def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path, content):
    (tmp_path / "best.ckpt").write_bytes(content)
    assert "not a checkpoint" in refused(tmp_path / "best.ckpt")


def test_a_cut_off_checkpoint_is_named(tmp_path):
    write(tmp_path / "best.ckpt")
    whole = (tmp_path / "best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(whole[: len(whole) * 2 // 3])
    assert "damaged" in refused(tmp_path / "best.ckpt")


@pytest.mark.parametrize(
    "foreign",
    [
        {"model": {"weight": torch.zeros(2)}},
        {"state_dict": {"restorer.weight": torch.zeros(2)}, "hyper_parameters": {}},
        {"config": CONFIG},
        {"config": {}, "state_dict": {}},
        {"config": {"model": "resnet"}, "state_dict": {"model.weight": torch.zeros(2)}},
        {"config": None, "state_dict": {}},
        {"config": {**CONFIG, "source": {"_target_": "restoration.flow.Nowhere"}}, "state_dict": {}},
        {"config": {**CONFIG, "source": {"_target_": "restoration.flow.Degraded", "level": 1}}, "state_dict": {}},
        "weights",
        [1, 2],
    ],
    ids=["plain", "lightning", "weightless", "empty", "config", "none", "class", "argument", "text", "list"],
)
def test_a_foreign_checkpoint_is_named(tmp_path, foreign):
    torch.save(foreign, tmp_path / "best.ckpt")
    assert "0.1" not in refused(tmp_path / "best.ckpt")


def test_a_checkpoint_of_version_0_1_is_refused_with_the_version_that_reads_it(tmp_path):
    """Its config had no estimator, and other names of classes."""
    config = {name: value for name, value in CONFIG.items() if name != "estimator"}
    write(tmp_path / "best.ckpt", {**config, "prediction": {"_target_": "restoration.flow.Clean"}})
    message = refused(tmp_path / "best.ckpt")
    assert "use it with version 0.1.0" in message and "train again" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    write(tmp_path / "best.ckpt")
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    checkpoint["state_dict"]["restorer.backbone.head.weight"].view(-1)[3] = value
    torch.save(checkpoint, tmp_path / "best.ckpt")
    assert "best.ckpt: its weight restorer.backbone.head.weight is not finite" in refused(tmp_path / "best.ckpt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["backbone"]["widths"] = [16, 16, 24, 32]
    write(tmp_path / "best.ckpt", config)
    assert "do not fit" in refused(tmp_path / "best.ckpt")


class Harmful:
    """Unpickling it would run a command that the file chooses."""

    ran: list[str] = []

    def __reduce__(self):
        return Harmful.ran.append, ("run",)


def test_a_checkpoint_cannot_run_code_by_unpickling(tmp_path):
    write(tmp_path / "best.ckpt", extra=Harmful())
    refused(tmp_path / "best.ckpt")
    assert Harmful.ran == []


def test_a_checkpoint_contains_the_restorer_of_its_source(tmp_path):
    """The config of a posterior mean's restorer replaces its path, so that the file is not needed later."""
    regression = write(tmp_path / "regression.ckpt")
    inner = {"_target_": "restoration.restorer.Restorer.load", "path": str(tmp_path / "regression.ckpt")}
    source = {"_target_": "restoration.flow.PosteriorMean", "sigma": 0.2, "restorer": inner}
    config = {**CONFIG, "source": source}
    made = Restorer.build(config)
    state = {f"restorer.{name}": value for name, value in made.state_dict().items()}
    carried = self_contained(config)
    assert self_contained(CONFIG) is CONFIG and "path" not in carried["source"]["restorer"]
    torch.save({"config": carried, "state_dict": state}, tmp_path / "flow.ckpt")
    (tmp_path / "regression.ckpt").unlink()
    loaded = Restorer.load(tmp_path / "flow.ckpt")
    degraded, keys = torch.rand(1, 3, 32, 32), torch.arange(1)
    assert torch.equal(loaded.restore(degraded, keys).images, made.eval().restore(degraded, keys).images)
    assert torch.equal(
        loaded.source.restorer.restore(degraded, keys, 1).images, regression.restore(degraded, keys, 1).images
    )
