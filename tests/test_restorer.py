"""The restorer: any size, keyed noise, one encoding, and checkpoints that rebuild themselves or say why not."""

import copy
import math

import pytest
import torch

from restoration.backbone import Encoder, ResNetUNet
from restoration.errors import UserError
from restoration.flow import Degraded
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint

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
    "prediction": {"_target_": "restoration.flow.Clean"},
}


def scatter(restorer: Restorer) -> Restorer:
    """Away from the zeros that some layers are born with."""
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return restorer.eval()


@pytest.fixture
def restorer() -> Restorer:
    backbone = ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24, 24), depth=1, embedding=32)
    return scatter(Restorer(backbone, Degraded(0.5), Midpoint(nfe=4)))


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 1), (40, 5)], ids=str)
def test_any_size_comes_back_in_range(restorer, size):
    restored = restorer.restore(torch.rand(2, 3, *size), torch.arange(2))
    assert restored.shape == (2, 3, *size) and restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1 and restored.isfinite().all()


def test_padding_repeats_the_edge_and_is_cut_off_again(restorer):
    image = torch.rand(1, 3, 13, 30)
    padded = torch.cat([image, image[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, 2)], dim=3)
    whole = restorer.restore(padded, torch.arange(1))
    torch.testing.assert_close(restorer.restore(image, torch.arange(1)), whole[..., :13, :30])


def test_equal_keys_give_equal_results_whatever_the_batch(restorer):
    degraded, keys = torch.rand(5, 3, 32, 32), fold(0, "sampling", 0, torch.arange(5))
    together = restorer.restore(degraded, keys)
    assert torch.equal(together, restorer.restore(degraded, keys))
    for rows in ([0], [4, 1], [3, 2, 0]):
        torch.testing.assert_close(restorer.restore(degraded[rows], keys[rows]), together[rows], atol=1e-4, rtol=0)
    assert (restorer.restore(degraded, keys + 1) - together).abs().mean() > 1e-3


def test_the_start_is_the_degraded_image_and_keyed_noise(restorer):
    degraded, keys = torch.rand(3, 3, 64, 64), torch.arange(3)
    context = restorer.encode(degraded)
    mean, deviation = context.mean, context.deviation
    noise = (restorer.start(mean, deviation, keys) - (2 * degraded - 1)) / 0.5
    assert abs(noise.mean()) < 4.5 / math.sqrt(noise.numel()) and abs(noise.std() - 1) < 0.02
    alone = restorer.start(mean[[2]], deviation[[2]], keys[[2]])
    torch.testing.assert_close(alone, restorer.start(mean, deviation, keys)[[2]])


@pytest.mark.parametrize("nfe", [1, 2, 7])
def test_the_encoder_runs_once_and_the_network_nfe_times(restorer, nfe):
    calls = {"encoder": 0, "backbone": 0}

    def count(name: str):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    restorer.backbone.encoder.register_forward_hook(count("encoder"))
    restorer.backbone.register_forward_hook(count("backbone"))
    restorer.restore(torch.rand(2, 3, 32, 32), torch.arange(2), nfe)
    assert calls == {"encoder": 1, "backbone": nfe}


def test_nfe_none_is_the_samplers_own(restorer):
    degraded, keys = torch.rand(1, 3, 32, 32), torch.arange(1)
    assert torch.equal(restorer.restore(degraded, keys), restorer.restore(degraded, keys, 4))


def test_one_evaluation_is_the_prediction_at_the_start(restorer):
    degraded, keys = torch.rand(2, 3, 32, 32), torch.arange(2)
    with torch.no_grad():
        context = restorer.encode(degraded)
        predicted = restorer.predict(restorer.start(context.mean, context.deviation, keys), torch.zeros(2), context)
    torch.testing.assert_close(restorer.restore(degraded, keys, 1), Restorer.to_image(predicted), atol=1e-6, rtol=0)


def test_an_untrained_network_returns_the_degraded_image_in_one_evaluation():
    """The last layers are born zero: before the first step the restorer is the identity where nothing is black."""
    backbone = ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24, 24), depth=1, embedding=32).eval()
    with torch.no_grad():
        backbone.head.bias.zero_()
    degraded = torch.rand(2, 3, 32, 32)
    restored = Restorer(backbone, Degraded(0.5), Euler()).restore(degraded, torch.arange(2), 1)
    # A hole is no more than 2 % likely; that share of a slight smoothing is left.
    torch.testing.assert_close(restored, degraded, atol=2e-3, rtol=0)


def test_restoring_needs_no_gradient(restorer):
    assert not restorer.restore(torch.rand(1, 3, 16, 16), torch.arange(1)).requires_grad


def write(path, config=CONFIG, **extra) -> Restorer:
    """A checkpoint as Lightning leaves it: the module's state under `restorer.`, and more."""
    restorer = scatter(Restorer.build(CONFIG))
    state = {f"restorer.{name}": value for name, value in restorer.state_dict().items()}
    torch.save({"config": config, "state_dict": {**state, "other": torch.zeros(1)}, "epoch": 3, **extra}, path)
    return restorer


def test_a_checkpoint_rebuilds_itself(tmp_path):
    saved = write(tmp_path / "best.ckpt")
    loaded, config = Restorer.load_with_config(tmp_path / "best.ckpt")
    assert config == CONFIG and not loaded.training
    assert loaded.source.sigma == 0.4 and loaded.sampler.nfe == 4 and loaded.stride == 16
    state = loaded.state_dict()
    assert state.keys() == saved.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in saved.state_dict().items())
    degraded, keys = torch.rand(2, 3, 32, 32), torch.arange(2)
    assert torch.equal(Restorer.load(tmp_path / "best.ckpt").restore(degraded, keys), saved.restore(degraded, keys))


def test_loading_needs_no_encoder_weights(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["backbone"]["encoder"]["weights"] = str(tmp_path / "gone.safetensors")
    write(tmp_path / "best.ckpt", config)
    loaded, given = Restorer.load_with_config(tmp_path / "best.ckpt")
    assert loaded.backbone.encoder.pretrained and given == config


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
def test_a_file_that_is_none_is_named(tmp_path, content):
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
    refused(tmp_path / "best.ckpt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["backbone"]["widths"] = [16, 16, 24, 32]
    write(tmp_path / "best.ckpt", config)
    assert "do not fit" in refused(tmp_path / "best.ckpt")


class Harmful:
    """Unpickling it would run a command of the file's choice."""

    ran: list[str] = []

    def __reduce__(self):
        return Harmful.ran.append, ("run",)


def test_a_checkpoint_cannot_run_code_by_unpickling(tmp_path):
    write(tmp_path / "best.ckpt", extra=Harmful())
    refused(tmp_path / "best.ckpt")
    assert Harmful.ran == []
