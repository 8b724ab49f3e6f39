"""The distributions of the training times."""

import pytest
import torch
from scipy import stats

from restoration.errors import UserError
from restoration.flow import LogitNormal, Uniform
from restoration.keyed import fold


def draw(sampler, batches: int = 100, count: int = 100) -> torch.Tensor:
    return torch.stack([sampler(fold("time", batch), count) for batch in range(batches)])


@pytest.mark.parametrize("distribution", [Uniform, LogitNormal])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_the_share_at_the_start_is_exact(distribution, share):
    times = draw(distribution(start_share=share))
    # Of 100 equidistant points there are 100·share below the share, in every batch.
    assert ((times == 0).sum(1) - 100 * share).abs().max() <= (0 if share in (0.0, 1.0) else 1)
    assert (times == 0).float().mean() == pytest.approx(share, abs=2e-3)
    assert times.dtype == torch.float32 and times.min() >= 0 and times.max() < 1


def test_a_share_between_whole_numbers_is_met_on_average():
    times = draw(Uniform(start_share=0.1), batches=2000, count=8)
    assert set((times == 0).sum(1).tolist()) == {0, 1}
    assert (times == 0).float().mean() == pytest.approx(0.1, abs=0.004)


@pytest.mark.parametrize(
    "sampler, distribution",
    [
        (Uniform(start_share=0.1), stats.uniform()),
        (Uniform(start_share=0.0), stats.uniform()),
        (LogitNormal(0.0, 1.0), None),
        (LogitNormal(0.5, 0.7, start_share=0.3), None),
    ],
    ids=["uniform", "uniform-no-start", "logit-normal", "logit-normal-shifted"],
)
def test_the_later_times_follow_their_distribution(sampler, distribution):
    times = draw(sampler, batches=400).flatten().double()
    later = times[times > 0]
    if distribution is None:
        later, distribution = later.logit(), stats.norm(sampler.mean, sampler.std)
    # Stratified draws are closer to it than independent ones: the distance is far below 1.36 / sqrt(n).
    assert stats.kstest(later.numpy(), distribution.cdf).statistic < 0.004
    middle = torch.quantile(later, torch.tensor([0.1, 0.5, 0.9]).double())
    torch.testing.assert_close(middle, torch.from_numpy(distribution.ppf([0.1, 0.5, 0.9])), atol=0.01, rtol=0)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_every_stratum_of_a_batch_is_hit_once(count):
    for batch in draw(Uniform(start_share=0.0), batches=50, count=count):
        assert sorted((batch * count).long().tolist()) == list(range(count))


def test_times_are_not_sorted_and_change_with_the_key():
    times = draw(Uniform(start_share=0.0), batches=200, count=64)
    place = torch.arange(64) - 31.5
    correlation = (times * place).mean(1) / (times.std(1) * place.std())
    assert abs(correlation.mean()) < 4.5 / (200 * 64) ** 0.5
    assert len(times[:, 0].unique()) == 200
    assert torch.equal(Uniform()(fold("a"), 9), Uniform()(fold("a"), 9))


@pytest.mark.parametrize("sampler", [Uniform(start_share=0.0), Uniform(), LogitNormal()], ids=["0", "0.1", "logit"])
def test_the_largest_draw_stays_below_the_end(sampler, monkeypatch):
    """63 + (1 − 2⁻²⁴) rounds to 64 in float32."""
    monkeypatch.setattr("restoration.flow.time.uniform", lambda keys, count: torch.full((1, count), 1 - 2.0**-24))
    assert sampler(fold("last"), 64).max() < 1


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_zero_and_one_is_refused(share):
    with pytest.raises(UserError, match="start_share"):
        Uniform(start_share=share)
