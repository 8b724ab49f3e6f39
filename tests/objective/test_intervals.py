"""The intervals that terms draw."""

import pytest
import torch
from gaussian import gaussian_batch
from torch import Tensor

from restoration.errors import UserError
from restoration.flow import LogitNormal, Uniform
from restoration.keyed import fold
from restoration.objective import Intervals, SquaredError, Trajectory
from restoration.objective.interval import grown, of_rank
from restoration.sampler import Euler


def draw(intervals: Intervals, progress: float = 1.0, batches: int = 50, count: int = 100) -> tuple[Tensor, Tensor]:
    pairs = [intervals(fold("time", batch), count, progress) for batch in range(batches)]
    return torch.stack([t for t, _ in pairs]), torch.stack([r for _, r in pairs])


@pytest.mark.parametrize("time", [Uniform(0.0), LogitNormal(-0.8, 0.8, 0.0)], ids=["uniform", "logit-normal"])
def test_the_shares_are_exact_and_the_others_have_a_length(time):
    t, r = draw(Intervals(time, whole_share=0.2, end_share=0.1, equal_share=0.3))
    whole, end, equal = (t == 0) & (r == 1), (t > 0) & (r == 1), r == t
    assert ((end.sum(1) - 10).abs() <= 1).all()
    assert ((whole.sum(1) - 20).abs() <= 1).all() and ((equal.sum(1) - 30).abs() <= 1).all()
    assert whole.float().mean() == pytest.approx(0.2, abs=2e-3)
    assert ((0 <= t) & (t <= r) & (r <= 1)).all() and t.dtype == r.dtype == torch.float32


def test_the_ends_are_two_sorted_draws():
    t, r = draw(Intervals(Uniform(0.0), whole_share=0.0), batches=200)
    assert (r > t).float().mean() > 0.99
    # The smaller and the larger of two uniform draws, which do not depend on each other.
    assert t.mean() == pytest.approx(1 / 3, abs=0.005) and r.mean() == pytest.approx(2 / 3, abs=0.005)
    assert (r - t).square().mean() == pytest.approx(1 / 6, abs=0.005)


def test_the_longest_interval_grows():
    intervals = Intervals(Uniform(0.0), whole_share=0.2, growth=0.5)
    t, r = draw(intervals)
    for progress, longest in ((0.0, 0.0), (0.125, 0.25), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0), (1.0, 1.0)):
        now, end = draw(intervals, progress)
        assert torch.equal(now, t)
        torch.testing.assert_close(end - now, longest * (r - t), atol=1e-6, rtol=0)
        assert (end - now).max() == longest
    assert draw(Intervals(Uniform(0.0)), 0.0)[1].max() == 1


@pytest.mark.parametrize(
    "share, progress, factor", [(0.0, 0.0, 1.0), (0.5, 0.0, 0.0), (0.5, 0.2, 0.4), (0.5, 0.7, 1.0)]
)
def test_a_factor_grows_over_its_share(share, progress, factor):
    assert grown(progress, share) == factor


def test_the_draws_follow_the_key():
    intervals = Intervals(Uniform(0.0))
    first, again, other = (intervals(fold(key), 9) for key in ("a", "a", "b"))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and not torch.equal(first[0], other[0])


def test_ranks_take_their_own_part():
    batch, values = gaussian_batch(4, 8), torch.arange(7)
    assert torch.equal(of_rank(batch, values[:4]), values[:4])
    batch.place = (3, 7)
    assert torch.equal(of_rank(batch, values), values[3:])


def test_shares_above_one_are_refused():
    with pytest.raises(UserError, match="whole_share=0.5, end_share=0.2 and equal_share=0.4 exceed 1 together"):
        Intervals(Uniform(), whole_share=0.5, end_share=0.2, equal_share=0.4)
    with pytest.raises(UserError, match="end_share=0.7 and start_share=0.4 exceed 1 together"):
        Trajectory(Euler(), SquaredError(), end_share=0.7)


def test_pairs_of_points_of_a_trajectory():
    """Half from x_0 to the end; of the others, shares to the end, from x_0, and between any two."""
    term = Trajectory(Euler(nfe=8), SquaredError(), whole_share=0.5, end_share=0.4, start_share=0.3)
    pairs = [term._draw(fold("points", batch), 64, 9) for batch in range(200)]
    first, last = (torch.stack(ends) for ends in zip(*pairs, strict=True))
    assert ((first >= 0) & (first < last) & (last <= 8)).all()
    # One in eight points is x_0, and one in eight later points is the end.
    any_to_end = sum(1 / (8 - i) for i in range(8)) / 8
    assert (first == 0).float().mean() == pytest.approx(0.5 + 0.5 * (0.4 / 8 + 0.3 + 0.3 / 8), abs=0.01)
    assert (last == 8).float().mean() == pytest.approx(0.5 + 0.5 * (0.4 + 0.3 / 8 + 0.3 * any_to_end), abs=0.01)
    both = ((first == 0) & (last == 8)).float().mean()
    assert both == pytest.approx(0.5 + 0.5 * (0.4 / 8 + 0.3 / 8 + 0.3 / 64), abs=0.01)
    others = first[first > 0]
    assert (torch.bincount(others)[1:] / len(others) - 1 / 7).abs().max() < 0.02
    whole = Trajectory(Euler(nfe=8), SquaredError(), whole_share=1.0)._draw(fold("points"), 16, 9)
    assert not whole[0].any() and (whole[1] == 8).all()
