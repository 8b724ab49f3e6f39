"""Steps of the average velocity: exact for the exact one, in any number, tiled or not."""

import pytest
import torch
from gaussian import TAU, ExactMap, exact_map, posterior_mean
from helpers import Plain
from torch import Tensor

from restoration.errors import UserError
from restoration.estimator import Estimate, Estimator
from restoration.flow import CleanPrediction, Degraded, InitialEstimate, Noise, VelocityPrediction, to_model
from restoration.flow.tiling import Tiles
from restoration.keyed import fold, normal
from restoration.restorer import Restorer
from restoration.sampler import Consistency, Euler, MeanFlow
from restoration.sampler.base import KeepFirst

sources = pytest.mark.parametrize("source", [Degraded(0.5), Noise(), InitialEstimate(1.0)], ids=["y", "n", "initial"])
predictions = pytest.mark.parametrize("prediction", [CleanPrediction, VelocityPrediction])


@sources
@predictions
@pytest.mark.parametrize("nfe, warp", [(1, (1.0, 1.0)), (2, (1.0, 1.0)), (4, (1.5, 4.0))])
def test_any_number_of_steps_of_the_exact_map_leads_to_the_posterior(source, prediction, nfe, warp):
    """x_1 = μ + τ·n, for each noise."""
    degraded, keys = torch.linspace(0.4, 0.6, 4)[:, None, None, None].expand(-1, 3, 16, 16), torch.arange(4)
    restored = exact_map(source, prediction, MeanFlow(nfe, warp)).restore(degraded.contiguous(), keys).images
    expected = posterior_mean(to_model(degraded)) + TAU * normal(keys, (3, 16, 16))
    torch.testing.assert_close(to_model(restored), expected, atol=1e-5, rtol=0)


@sources
@predictions
def test_a_new_start_on_the_way_keeps_the_posterior(source, prediction):
    """With the exact map, x_1 = μ + τ·(r·τ·n_1 + (1 − r)·σ·n_2) / √(r²·τ² + (1 − r)²·σ²) after two evaluations."""
    degraded, keys = torch.linspace(0.4, 0.6, 4)[:, None, None, None].expand(-1, 3, 16, 16), torch.arange(4)
    sampler = Consistency(2, (1.0, 2.0))
    restorer = exact_map(source, prediction, sampler)
    one, two = (restorer.restore(degraded.contiguous(), keys, nfe).images for nfe in (1, 2))
    first, second = (normal(each, (3, 16, 16)) for each in (keys, fold(keys, "again", 1)))
    mean, r = posterior_mean(to_model(degraded)), sampler.time_grid(2)[1]
    torch.testing.assert_close(to_model(one), mean + TAU * first, atol=1e-5, rtol=0)
    sigma = restorer.field(degraded.contiguous()).sigma
    noise = (r * TAU * first + (1 - r) * sigma * second) / ((r * TAU) ** 2 + ((1 - r) * sigma) ** 2).sqrt()
    torch.testing.assert_close(to_model(two), mean + TAU * noise, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="give keys"):
        sampler(restorer.field(degraded.contiguous()), torch.zeros(4, 3, 16, 16))


@pytest.mark.parametrize("sampler", [MeanFlow(), Consistency()])
@pytest.mark.parametrize("nfe", [1, 3])
def test_tiles_take_the_same_steps(nfe, sampler):
    restorer, keys = exact_map(Degraded(0.5), sampler=sampler), torch.arange(2)
    degraded = torch.rand(2, 3, 40, 72) * 0.2 + 0.4
    whole = restorer.restore(degraded, keys, nfe).images
    torch.testing.assert_close(
        restorer.restore(degraded, keys, nfe, tiles=Tiles(32, 8)).images, whole, atol=1e-5, rtol=0
    )


def test_intervals_are_not_kept():
    """The first average velocity over [0, 1] leads to a sample, not to the mean."""
    field = exact_map(Noise()).field(torch.rand(2, 3, 8, 8))
    kept, x, t = KeepFirst(field, torch.zeros(2, 1, 8, 8)), torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.4])
    for r in (t + 0.3, t + 0.6):
        assert torch.equal(kept.velocity(x, t, r), field.velocity(x, t, r))
        assert torch.equal(kept.displacement(x, t, r), field.displacement(x, t, r))
        x = x + 1


class Half(Estimator):
    """Surely nothing is wrong in the left half."""

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        std = torch.ones_like(degraded[:, :1])
        std[..., : degraded.shape[-1] // 2] = 0
        return Estimate(degraded, std, 0 * std)


@pytest.mark.parametrize("source", [Noise(), InitialEstimate(1.0)], ids=["everywhere", "in the right half"])
@pytest.mark.parametrize("nfe", [1, 2])
def test_one_step_spreads_only_where_the_estimate_is_uncertain(source, nfe):
    restorer = Restorer(ExactMap(Noise(), CleanPrediction), source, MeanFlow(nfe), estimator=Half())
    degraded = torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    restored = restorer.restore(degraded, fold("spread", torch.arange(2))).images
    torch.testing.assert_close(restored[..., :4], degraded[..., :4], atol=1e-6, rtol=0)
    assert (restored[0] - restored[1])[..., 4:].abs().mean() > 0.01


def test_a_backbone_of_one_time_is_refused():
    with pytest.raises(UserError, match="Plain takes one time t; .*two_times = True"):
        Restorer(Plain(), Noise(), Euler()).restore(torch.rand(1, 3, 8, 8), torch.arange(1), sampler=MeanFlow())
