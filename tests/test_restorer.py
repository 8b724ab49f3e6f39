"""The restorer: any size, keyed noise, one encoding, and restoration in one evaluation."""

import math

import pytest
import torch

from restoration.backbone import Encoder, ResNetUNet
from restoration.errors import UserError
from restoration.estimator import Blind
from restoration.flow import Degraded, to_image
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint


def scatter(restorer: Restorer) -> Restorer:
    """Moves the zero-initialised layers away from zero."""
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return restorer.eval()


@pytest.fixture
def restorer() -> Restorer:
    backbone = ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24, 24), depth=1, embedding=32)
    return scatter(Restorer(backbone, Degraded(0.5), Midpoint(nfe=4), estimator=Blind(16)))


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 1), (40, 5)], ids=str)
def test_any_size_comes_back_in_range(restorer, size):
    restored = restorer.restore(torch.rand(2, 3, *size), torch.arange(2)).images
    assert restored.shape == (2, 3, *size) and restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1 and restored.isfinite().all()


def test_padding_repeats_the_edge_and_is_cut_off_again(restorer):
    image = torch.rand(1, 3, 13, 30)
    padded = torch.cat([image, image[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    padded = torch.cat([padded, padded[..., -1:].expand(-1, -1, -1, 2)], dim=3)
    whole = restorer.restore(padded, torch.arange(1)).images
    torch.testing.assert_close(restorer.restore(image, torch.arange(1)).images, whole[..., :13, :30])


def test_equal_keys_give_equal_results_whatever_the_batch(restorer):
    degraded, keys = torch.rand(5, 3, 32, 32), fold(0, "sampling", 0, torch.arange(5))
    together = restorer.restore(degraded, keys).images
    assert torch.equal(together, restorer.restore(degraded, keys).images)
    for rows in ([0], [4, 1], [3, 2, 0]):
        torch.testing.assert_close(
            restorer.restore(degraded[rows], keys[rows]).images, together[rows], atol=1e-4, rtol=0
        )
    assert (restorer.restore(degraded, keys + 1).images - together).abs().mean() > 1e-3


def test_the_start_is_the_degraded_image_and_keyed_noise(restorer):
    degraded, keys = torch.rand(3, 3, 64, 64), torch.arange(3)
    start = restorer.field(degraded).start(keys)
    noise = (start - (2 * degraded - 1)) / 0.5
    assert abs(noise.mean()) < 4.5 / math.sqrt(noise.numel()) and abs(noise.std() - 1) < 0.02
    torch.testing.assert_close(restorer.field(degraded[[2]]).start(keys[[2]]), start[[2]])


@pytest.mark.parametrize("nfe", [1, 2, 7])
def test_estimator_and_encoder_run_once_and_the_network_nfe_times(restorer, nfe):
    calls = {"estimator": 0, "encoder": 0, "backbone": 0}

    def count(name: str):
        return lambda *_: calls.__setitem__(name, calls[name] + 1)

    restorer.estimator.register_forward_hook(count("estimator"))
    restorer.backbone.encoder.register_forward_hook(count("encoder"))
    restorer.backbone.register_forward_hook(count("backbone"))
    restorer.restore(torch.rand(2, 3, 32, 32), torch.arange(2), nfe)
    assert calls == {"estimator": 1, "encoder": 1, "backbone": nfe}


def test_nfe_none_is_the_samplers_own(restorer):
    degraded, keys = torch.rand(1, 3, 32, 32), torch.arange(1)
    assert torch.equal(restorer.restore(degraded, keys).images, restorer.restore(degraded, keys, 4).images)


def test_one_evaluation_is_the_prediction_at_the_start(restorer):
    degraded, keys = torch.rand(2, 3, 32, 32), torch.arange(2)
    with torch.no_grad():
        field = restorer.field(degraded)
        predicted = field.clean(field.start(keys), torch.zeros(2))
    torch.testing.assert_close(restorer.restore(degraded, keys, 1).images, to_image(predicted), atol=1e-6, rtol=0)


def test_an_untrained_network_returns_the_degraded_image_in_one_evaluation():
    """The last layers are zero-initialised: before the first step nothing changes where no pixel is black."""
    backbone = ResNetUNet(Encoder("test_resnet", "random"), (16, 16, 24, 24), depth=1, embedding=32).eval()
    with torch.no_grad():
        backbone.head.bias.zero_()
    degraded = torch.rand(2, 3, 32, 32)
    exact = Restorer(backbone, Degraded(0.5), Euler()).restore(degraded, torch.arange(2), 1).images
    torch.testing.assert_close(exact, degraded, atol=1e-6, rtol=0)
    # Blind, a hole is 5 % likely; that share of a slight smoothing is left.
    blind = Restorer(backbone, Degraded(0.5), Euler(), estimator=Blind(16).eval())
    torch.testing.assert_close(blind.restore(degraded, torch.arange(2), 1).images, degraded, atol=0.01, rtol=0)


def test_restoring_needs_no_gradient(restorer):
    assert not restorer.restore(torch.rand(1, 3, 16, 16), torch.arange(1)).images.requires_grad


def test_another_sampler_replaces_the_restorers_own(restorer):
    degraded, keys = torch.rand(1, 3, 32, 32), torch.arange(1)
    other = restorer.restore(degraded, keys, sampler=Euler(nfe=4)).images
    assert not torch.equal(other, restorer.restore(degraded, keys).images)
    assert isinstance(restorer.sampler, Midpoint)
    assert torch.equal(other, restorer.restore(degraded, keys, 4, Euler(nfe=1)).images)


def test_a_given_start_replaces_the_sources(restorer):
    degraded = torch.rand(1, 3, 32, 32)
    mean, sigma = torch.randn(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    field = restorer.field(degraded, start=(mean, sigma))
    assert torch.equal(field.mean, mean) and torch.equal(field.sigma, sigma)


@pytest.mark.parametrize("size, near", [(40, "32 or 48"), (8, "16")])
def test_a_training_size_that_would_need_padding_is_refused(restorer, size, near):
    with pytest.raises(UserError, match=f"data.image_size={size} is not a multiple of .* stride 16; use {near}$"):
        restorer.check_size(size)
    restorer.check_size(48)
