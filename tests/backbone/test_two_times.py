"""The U-Nets over intervals [t, r]: an exact warm start, noise that enters, and derivatives."""

from pathlib import Path

import pytest
import torch
from helpers import encoder_file
from torch import Tensor, nn

from restoration.backbone import Encoder, ResNetUNet, ResNetUNetState
from restoration.errors import UserError
from restoration.estimator import Estimate, Identity
from restoration.flow import CleanPrediction, Noise
from restoration.restorer import Restorer
from restoration.run.checkpoint import initialize
from restoration.sampler import Euler

T, R = torch.tensor([0.0, 0.3]), torch.tensor([1.0, 0.7])
OPTIONS = {"widths": (16, 16, 24, 24), "depth": 2, "embedding": 32}
both = pytest.mark.parametrize("kind", [ResNetUNet, ResNetUNetState])
forms = pytest.mark.parametrize("decoupled", [False, True], ids=["length", "decoupled"])


def trained(kind: type[ResNetUNet] = ResNetUNet, **options) -> ResNetUNet:
    """A network in which every weight acts."""
    made = kind(Encoder("test_resnet", "random"), **OPTIONS, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def grown(flow: ResNetUNet, **options) -> ResNetUNet:
    """A new network with two times that starts from the weights of a flow."""
    made = type(flow)(Encoder("test_resnet", "random"), **OPTIONS, two_times=True, **options)
    lacking, unexpected = made.load_state_dict(flow.state_dict(), strict=False)
    assert not unexpected and all(name.startswith(("noise_stem", "length")) for name in lacking)
    return made.eval()


def drawn() -> tuple[Tensor, Tensor, Estimate]:
    """x_in, noise and the estimate of two images."""
    degraded = torch.rand(2, 3, 32, 32) * 2 - 1
    return torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), Identity()(degraded)


@both
@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_without_length_an_interval_changes_no_bit(kind, decoupled, dtype):
    """Also once all weights act, under autocast, and without r."""
    flow = trained(kind)
    network = grown(flow, decoupled=decoupled)
    for parameter in (p for name, p in network.named_parameters() if name.startswith(("noise_stem", "length"))):
        parameter.normal_()
    x_in, noise, estimate = drawn()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected = flow(x_in, T, flow.encode(estimate.initial, estimate))
        features = network.encode(estimate.initial, estimate)
        assert torch.equal(network(x_in, T, features), expected)
        assert torch.equal(network(x_in, T, features, T, noise), expected)
        assert (network(x_in, T, features, R, noise) - expected).abs().amax(dim=(1, 2, 3)).min() > 1e-2


@torch.no_grad()
def test_at_first_the_velocity_over_an_interval_is_that_at_its_start():
    flow = trained()
    network = grown(flow)
    x_in, noise, estimate = drawn()
    expected = flow(x_in, T, flow.encode(estimate.initial, estimate))
    assert torch.equal(network(x_in, T, network.encode(estimate.initial, estimate), R, noise), expected)


@torch.no_grad()
def test_the_deep_levels_of_a_decoupled_network_see_t_and_the_others_r():
    network = trained(two_times=True, decoupled=True)
    x_in, noise, estimate = drawn()
    seen: list[Tensor] = []
    for block in network.blocks:
        block.modulation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = network.encode(estimate.initial, estimate)
    for t, r in ((T, R), (T, T), (R, R)):
        network(x_in, t, features, r, noise)
    mixed, at_t, at_r = seen[:4], seen[4:8], seen[8:]
    assert all(torch.equal(*pair) for pair in zip(mixed[:2], at_t[:2], strict=True))
    assert all(torch.equal(*pair) for pair in zip(mixed[2:], at_r[2:], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(at_t, at_r, strict=True))


def test_decoupled_times_need_two():
    with pytest.raises(UserError, match="backbone.decoupled=true needs two times: add backbone.two_times=true"):
        ResNetUNet(Encoder("test_resnet", "random"), **OPTIONS, decoupled=True)


def test_a_seed_gives_the_shared_weights_whether_there_are_one_or_two_times():
    states = []
    for two_times in (False, True):
        torch.manual_seed(3)
        states.append(ResNetUNet(Encoder("test_resnet", "random"), **OPTIONS, two_times=two_times).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@both
@forms
def test_the_jvp_equals_central_differences(kind, decoupled, monkeypatch):
    """In float64, through the whole field, in (x_t, t, r); the casts to float32 would hide the differences."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    restorer = Restorer(trained(kind, two_times=True, decoupled=decoupled), Noise(), Euler(), CleanPrediction).double()
    with torch.no_grad():
        field = restorer.field(torch.rand(2, 3, 32, 32).double())
    x, t, r = torch.randn(2, 3, 32, 32).double(), torch.tensor([0.2, 0.5]).double(), torch.tensor([0.9, 0.6]).double()
    along = (torch.randn_like(x), torch.ones_like(t), torch.full_like(r, -0.5))
    value, tangent = torch.func.jvp(field.velocity, (x, t, r), along)
    with torch.no_grad():
        torch.testing.assert_close(value, field.velocity(x, t, r))
        h = 1e-5 if kind is ResNetUNet else 1e-8  # between the kinks of the encoder's ReLUs
        ahead, behind = (
            field.velocity(*(v + s * h * d for v, d in zip((x, t, r), along, strict=True))) for s in (1, -1)
        )
    torch.testing.assert_close(
        tangent, (ahead - behind) / (2 * h), atol=1e-6 if kind is ResNetUNet else 1e-5, rtol=1e-5
    )
    assert tangent.abs().max() > 0.1


@forms
def test_one_step_of_training_lets_the_noise_in(decoupled):
    """The zero-initialised stem has a gradient at once; then two noises give two answers, but none without length."""
    network = grown(trained(), decoupled=decoupled)
    restorer = Restorer(network, Noise(), Euler())
    degraded, keys = torch.rand(2, 3, 32, 32), torch.tensor([[1, 2], [3, 4]])
    optimizer = torch.optim.SGD(restorer.parameters(), lr=1e-2)

    def answers() -> list[Tensor]:
        field = restorer.field(degraded)
        return [field.velocity(field.start(key), 0 * T, R / R) + field.start(key) for key in keys]

    with torch.no_grad():
        before = answers()
        torch.testing.assert_close(before[0], before[1], atol=1e-5, rtol=0)
    (answers()[0] - torch.randn_like(degraded)).square().mean().backward()
    stem = network.noise_stem[1].weight
    assert stem.grad.abs().max() > 0
    assert network.length is None or network.length.network[2].weight.grad.abs().max() > 0
    optimizer.step()
    with torch.no_grad():
        first, second = answers()
        assert (first - second).abs().amax(dim=(1, 2, 3)).min() > 1e-3
        field = restorer.field(degraded)
        equal = [field.clean(field.start(key), 0 * T, 0 * T) for key in keys]
        assert torch.equal(equal[0], equal[1])


def test_a_flows_checkpoint_is_an_exact_start(tmp_path: Path):
    """By `init`, with a pretrained encoder, whose frozen statistics stay."""
    encoder = {"_target_": "restoration.backbone.Encoder", "model": "test_resnet"}
    config = {
        "backbone": {"_target_": "restoration.backbone.ResNetUNet", "encoder": encoder, "widths": [16] * 4},
        "source": {"_target_": "restoration.flow.Noise"},
        "sampler": {"_target_": "restoration.sampler.Euler"},
        "prediction": {"_target_": "restoration.flow.CleanPrediction", "_partial_": True},
        "estimator": {"_target_": "restoration.estimator.Blind", "width": 16},
    }
    flow = Restorer.build(config, str(encoder_file(tmp_path)))
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.05)
    state = {f"restorer.{name}": value for name, value in flow.state_dict().items()}
    torch.save({"config": config, "state_dict": state, "images_seen": 0}, tmp_path / "flow.ckpt")
    config["backbone"] = {**config["backbone"], "two_times": True}
    restorer = Restorer.build(config, "random")
    initialize(restorer, tmp_path / "flow.ckpt")
    degraded, x_t = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, field = flow.eval().field(degraded).velocity(x_t, T), restorer.eval().field(degraded)
        for r in (None, T, R):
            assert torch.equal(field.velocity(x_t, T, r), expected)
