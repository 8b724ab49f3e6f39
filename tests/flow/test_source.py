"""Where the flow starts."""

from dataclasses import replace

import pytest
import torch
from helpers import blank_context
from torch import Tensor, nn

from restoration.backbone import Context
from restoration.flow import Base, Degraded, Noise, PosteriorMean, to_image, to_model


def context_of(degraded: Tensor) -> Context:
    """With a base and an expected error of their own."""
    return replace(blank_context(degraded), base=0.5 * degraded, scale=torch.rand_like(degraded[:, :1]))


def test_noise_forgets_the_degraded_image():
    context = context_of(torch.randn(2, 3, 4, 4))
    assert not Noise().mean(context).any() and torch.equal(Noise().deviation(context), torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_degraded_starts_around_the_degraded_image(sigma):
    context = context_of(torch.randn(2, 3, 4, 4))
    assert torch.equal(Degraded(sigma).mean(context), context.degraded)
    assert torch.equal(Degraded(sigma).deviation(context), torch.full((2, 1, 4, 4), sigma))


def test_the_base_starts_with_noise_of_the_size_of_the_expected_error():
    context = context_of(torch.randn(2, 3, 4, 4))
    assert torch.equal(Base(0.5).mean(context), context.base)
    assert torch.equal(Base(0.5).deviation(context), 0.5 * context.scale)


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
        mean = source.train(mode).mean(context_of(degraded))
        torch.testing.assert_close(mean, to_model(to_image(degraded) / 2))
        assert not mean.requires_grad and not any(module.training for module in source.modules())
    assert source.sigma == 0.3 and source.restorer.asked == [1, 1]
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert list(source.state_dict()) == ["restorer.factor"]


def test_a_negative_sigma_is_refused():
    with pytest.raises(ValueError, match="source.sigma=-0.1"):
        Degraded(-0.1)
