"""Where the flow starts."""

import pytest
import torch

from restoration.flow import Degraded, Noise


def test_noise_forgets_the_degraded_image():
    degraded, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(Noise()(degraded, noise), noise)
    assert Noise().sigma == 1 and not Noise().mean(degraded).any()


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_degraded_adds_noise_to_the_degraded_image(sigma):
    degraded, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(Degraded(sigma)(degraded, noise), degraded + sigma * noise)
    assert torch.equal(Degraded(sigma).mean(degraded), degraded)


def test_a_negative_sigma_is_refused():
    with pytest.raises(ValueError, match="source.sigma=-0.1"):
        Degraded(-0.1)
