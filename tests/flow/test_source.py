"""Where the flow starts."""

import pytest
import torch
from torch import Tensor, nn

from restoration.flow import Degraded, Noise, PosteriorMean, to_image, to_model


def test_noise_forgets_the_degraded_image():
    assert Noise().sigma == 1 and not Noise().mean(torch.randn(2, 3, 4, 4)).any()


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_degraded_starts_around_the_degraded_image(sigma):
    degraded = torch.randn(2, 3, 4, 4)
    assert Degraded(sigma).sigma == sigma and torch.equal(Degraded(sigma).mean(degraded), degraded)


class Halving(nn.Module):
    """A restorer of a kind, with a parameter and a layer that is different in training."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self.dropout = nn.Dropout(0.9)
        self.asked: list[int | None] = []

    def restore(self, degraded: Tensor, keys: Tensor, nfe: int | None = None) -> Tensor:
        self.asked.append(nfe)
        return self.dropout(self.factor * degraded)


def test_the_posterior_mean_is_one_evaluation_of_a_frozen_restorer():
    source = PosteriorMean(Halving(), 0.3)
    degraded = torch.rand(2, 3, 4, 4) * 2 - 1
    for mode in (True, False):
        mean = source.train(mode).mean(degraded)
        torch.testing.assert_close(mean, to_model(to_image(degraded) / 2))
        assert not mean.requires_grad and not any(module.training for module in source.modules())
    assert source.sigma == 0.3 and source.restorer.asked == [1, 1]
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert list(source.state_dict()) == ["restorer.factor"]


def test_a_negative_sigma_is_refused():
    with pytest.raises(ValueError, match="source.sigma=-0.1"):
        Degraded(-0.1)
