"""Where the flow starts."""

import pytest
import torch
from torch import Tensor, nn

from restoration.errors import UserError
from restoration.estimator import Estimate
from restoration.flow import Degraded, InitialEstimate, Noise, PosteriorMean, to_image, to_model
from restoration.restorer import Restored


@pytest.fixture
def degraded() -> Tensor:
    return torch.rand(2, 3, 4, 4) * 2 - 1


@pytest.fixture
def estimate(degraded: Tensor) -> Estimate:
    """An estimate that differs from the degraded image."""
    residual_std = torch.rand_like(degraded[:, :1])
    return Estimate(0.5 * degraded, residual_std, torch.zeros_like(residual_std))


def test_noise_is_independent_of_the_degraded_image(degraded, estimate):
    assert not Noise().mean(degraded, estimate).any()
    assert torch.equal(Noise().sigma(estimate), torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_degraded_starts_around_the_degraded_image(sigma, degraded, estimate):
    assert torch.equal(Degraded(sigma).mean(degraded, estimate), degraded)
    assert torch.equal(Degraded(sigma).sigma(estimate), torch.full((2, 1, 4, 4), sigma))


def test_the_initial_estimate_starts_with_noise_in_units_of_the_residual_std(degraded, estimate):
    assert torch.equal(InitialEstimate(0.5).mean(degraded, estimate), estimate.initial)
    assert torch.equal(InitialEstimate(0.5).sigma(estimate), 0.5 * estimate.residual_std)


class Halving(nn.Module):
    """A minimal restorer, with a parameter and a layer that is different in training."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self.dropout = nn.Dropout(0.9)
        self.nfes: list[int | None] = []

    def restore(self, degraded: Tensor, keys: Tensor, nfe: int | None = None) -> Restored:
        self.nfes.append(nfe)
        return Restored(self.dropout(self.factor * degraded), torch.zeros(len(degraded)))


def test_the_posterior_mean_is_one_evaluation_of_a_frozen_restorer(degraded, estimate):
    source = PosteriorMean(Halving(), 0.3)
    for mode in (True, False):
        mean = source.train(mode).mean(degraded, estimate)
        torch.testing.assert_close(mean, to_model(to_image(degraded) / 2))
        assert not mean.requires_grad and not any(module.training for module in source.modules())
    assert torch.equal(source.sigma(estimate), torch.full((2, 1, 4, 4), 0.3))
    assert source.restorer.nfes == [1, 1]
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert list(source.state_dict()) == ["restorer.factor"]


@pytest.mark.parametrize("source", [Degraded, InitialEstimate, lambda sigma: PosteriorMean(Halving(), sigma)])
def test_a_negative_sigma_is_refused(source):
    with pytest.raises(UserError, match="source.sigma=-0.1"):
        source(-0.1)
