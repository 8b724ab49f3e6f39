"""Fréchet distance against closed forms and torchmetrics."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import _compute_fid

from restoration.metrics.bootstrap import jackknife
from restoration.metrics.frechet import (
    FeatureStatistics,
    FrechetDistance,
    GroupedStatistics,
    frechet_distance,
    frechet_left_out,
)


def statistics(features: torch.Tensor, batch: int = 100) -> FeatureStatistics:
    result = FeatureStatistics()
    for part in features.split(batch):
        result.update(part)
    return result


def whitened(count: int, dimension: int, seed: int = 0) -> torch.Tensor:
    """Features whose sample mean is 0 and sample covariance exactly the identity."""
    raw = torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw -= raw.mean(dim=0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T.cov()), raw.T, upper=False).T


def test_closed_form_of_commuting_gaussians():
    """Diagonal covariances: |m - m'|² + sum of (s - s')²."""
    white = whitened(500, 4)
    scale, other = torch.tensor([1.0, 2.0, 0.5, 3.0]), torch.tensor([2.0, 2.0, 1.0, 0.25])
    shift = torch.tensor([0.5, 0.0, -1.0, 0.0])
    expected = shift.square().sum() + (scale - other).square().sum()
    distance = frechet_distance(statistics(white * scale), statistics(white * other + shift))
    assert distance == pytest.approx(expected.item(), abs=1e-8)


def test_moments_are_those_of_the_joined_batches():
    features = torch.randn(257, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3.0
    streamed = statistics(features, batch=50)
    torch.testing.assert_close(streamed.mean, features.mean(dim=0))
    torch.testing.assert_close(streamed.covariance, features.T.cov())


def test_agrees_with_torchmetrics_on_full_covariances():
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one, other = statistics(whitened(300, 6) @ mix), statistics(whitened(400, 6, seed=3) @ mix.T + 0.3)
    expected = _compute_fid(one.mean, one.covariance, other.mean, other.covariance)
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-8)


def test_fewer_images_than_features():
    """Rank-deficient covariances: 0 to itself, and |shift|² to itself moved."""
    features = torch.randn(20, 64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert frechet_distance(statistics(features), statistics(features)) == pytest.approx(0.0, abs=1e-4)
    assert frechet_distance(statistics(features), statistics(features + 1.0)) == pytest.approx(64.0, abs=1e-4)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 images"):
        frechet_distance(statistics(torch.zeros(1, 3)), statistics(torch.zeros(5, 3)))


def grouped(features: torch.Tensor) -> GroupedStatistics:
    result = GroupedStatistics()
    for part, index in zip(features.split(60), torch.arange(len(features)).split(60), strict=True):
        result.update(part, index)
    return result


def test_groups_join_to_the_whole_and_leave_one_out():
    features = torch.randn(130, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    torch.testing.assert_close(grouped(features).joined().covariance, features.T.cov())
    others = features[torch.arange(130) % 10 != 4]
    left = grouped(features).joined(without=4)
    assert left.count == len(others) == 117
    torch.testing.assert_close(left.mean, others.mean(dim=0))


def test_the_interval_holds_the_distance_as_often_as_it_says():
    """One feature, a shift of 1 with unit noise: the distance's standard deviation over sets is about 2·√(2/n)."""
    covered, widths, distances = 0, [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        one, other = (torch.randn(200, 1, generator=generator, dtype=torch.float64) for _ in range(2))
        distance = frechet_distance(statistics(one + 1), statistics(other))
        low, high = jackknife(distance, frechet_left_out([grouped(one + 1)], grouped(other)))
        covered += low <= 1 <= high
        widths.append(high - low)
        distances.append(distance)
    assert 0.9 <= covered / 200 <= 0.99
    assert torch.tensor(widths).mean() == pytest.approx(float(2 * 2.262 * torch.tensor(distances).std()), rel=0.15)


def test_the_interval_of_a_difference_between_runs_on_the_same_images():
    """Twice as many images as features, where a distance itself is far from its limit: the difference that such sets
    have on average is held about as often as it should be, by an interval narrower than a distance's own."""
    differences, intervals, alone = [], [], []
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        clean, noise = (torch.randn(40, 20, generator=generator, dtype=torch.float64) for _ in range(2))
        runs = [clean + 0.2 + size * noise for size in (0.5, 0.6)]
        distances = [frechet_distance(statistics(run), statistics(clean)) for run in runs]
        left_out = [frechet_left_out([grouped(run)], grouped(clean)) for run in runs]
        differences.append(distances[1] - distances[0])
        intervals.append(jackknife(differences[-1], [b - a for a, b in zip(*left_out, strict=True)]))
        alone.append(jackknife(distances[1], left_out[1]))
    middle = sum(differences) / 100
    assert sum(low <= middle <= high for low, high in intervals) >= 85
    assert sum(high - low for low, high in intervals) < 0.5 * sum(high - low for low, high in alone)


def test_several_samples_are_averaged():
    generator = torch.Generator().manual_seed(9)
    one, two, other = (grouped(torch.randn(60, 3, generator=generator, dtype=torch.float64)) for _ in range(3))
    expected = [
        (a + b) / 2 for a, b in zip(frechet_left_out([one], other), frechet_left_out([two], other), strict=True)
    ]
    assert frechet_left_out([one, two], other) == pytest.approx(expected)


def test_too_few_images_have_no_interval():
    features = torch.randn(15, 2)
    assert frechet_left_out([grouped(features)], grouped(features)) is None


class Maps(nn.Module):
    """Two feature maps; the last is the image itself, scaled by a trainable 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x[:, :1], self.weight * x]


def test_features_are_the_mean_of_the_last_map_of_the_image_from_minus_one_to_one():
    frechet = FrechetDistance(Maps(), "frechet_maps")
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = frechet.features(images)
    torch.testing.assert_close(features, 2 * images.mean(dim=(2, 3)) - 1, atol=1e-5, rtol=0)
    assert not frechet.encoder.weight.requires_grad
    assert not isinstance(frechet, nn.Module)
