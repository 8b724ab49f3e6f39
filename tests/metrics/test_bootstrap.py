"""Bootstrap intervals against theory."""

import math

import numpy as np
import pytest

from restoration.metrics.bootstrap import Bootstrap


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    bootstrap = Bootstrap(100, resamples=500)
    hits = 0
    for _ in range(400):
        _, low, high = bootstrap.mean(generator.exponential(size=100))
        hits += low <= 1.0 <= high
    # Binomial(400, 0.95) has a deviation of 4.4; skewed data lose about 1.5 %.
    assert 360 <= hits <= 396


def test_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(1).normal(25.0, 3.0, size=1000)
    mean, low, high = Bootstrap(1000).mean(values)
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(1000), rel=0.1)


def test_nan_is_left_out_and_draws_are_seeded():
    values = np.array([1.0, 2.0, np.nan, 3.0] * 10)
    assert Bootstrap(40, seed=3).mean(values)[0] == pytest.approx(2.0)
    assert Bootstrap(40, seed=3).mean(values) == Bootstrap(40, seed=3).mean(values)
    assert Bootstrap(40, seed=3).mean(values) != Bootstrap(40, seed=4).mean(values)
    assert all(math.isnan(v) for v in Bootstrap(40).mean(np.full(40, np.nan)))


def test_ratio_of_sums():
    numerators, denominators = np.array([1.0, 2.0, 9.0]), np.array([2.0, 4.0, 18.0])
    assert Bootstrap(3).ratio(numerators, denominators) == pytest.approx((0.5, 0.5, 0.5))


def test_no_images():
    with pytest.raises(ValueError, match="no images"):
        Bootstrap(0)
