"""Intervals against theory."""

import math

import numpy as np
import pytest

from restoration.metrics.bootstrap import bootstrap_mean, bootstrap_ratio, jackknife


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        _, low, high = bootstrap_mean(generator.exponential(size=100))
        hits += low <= 1.0 <= high
    # Binomial(400, 0.95) has a standard deviation of 4.4; skewed data lose about 1.5 %.
    assert 360 <= hits <= 396


def test_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(1).normal(25.0, 3.0, size=1000)
    mean, low, high = bootstrap_mean(values)
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(1000), rel=0.1)


def test_it_equals_resampling_by_hand():
    values = np.random.default_rng(2).exponential(size=50)
    draws = np.random.default_rng(7).integers(0, 50, (1000, 50))
    expected = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    assert bootstrap_mean(values, seed=7)[1:] == pytest.approx(tuple(expected))


def test_nan_is_left_out_and_draws_are_seeded():
    values = np.array([1.0, 2.0, np.nan, 3.0] * 10)
    assert bootstrap_mean(values, seed=3)[0] == pytest.approx(2.0)
    assert bootstrap_mean(values, seed=3)[1:] == bootstrap_mean(values[np.isfinite(values)], seed=3)[1:]
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


@pytest.mark.parametrize("count", [0, 40])
def test_no_values_are_nan(count):
    assert all(math.isnan(value) for value in bootstrap_mean(np.full(count, np.nan)))


def test_one_value_is_its_own_interval():
    assert bootstrap_mean(np.array([np.nan, 7.0])) == (7.0, 7.0, 7.0)


def test_ratio_of_sums():
    numerators, denominators = np.array([1.0, 2.0, 9.0]), np.array([2.0, 4.0, 18.0])
    assert bootstrap_ratio(numerators, denominators) == pytest.approx((0.5, 0.5, 0.5))
    # Not the mean of ratios; and a resample whose references sum to 0 has no ratio.
    ratio, low, high = bootstrap_ratio(np.array([0.0, 0.0, 1.0, 6.0]), np.array([0.0, 0.0, 1.0, 3.0]))
    assert (ratio, low, high) == (1.75, 1.0, 2.0)
    assert all(math.isnan(value) for value in bootstrap_ratio(numerators, np.zeros(3)))


def test_jackknife_by_hand():
    """Ten groups: the 97.5 % quantile of Student's t with nine degrees of freedom is 2.262."""
    left_out = [1.0 + 0.1 * (-1) ** group for group in range(10)]
    low, high = jackknife(1.0, left_out)
    assert (low + high) / 2 == pytest.approx(1.0)
    assert (high - low) / 2 == pytest.approx(2.262 * math.sqrt(9 * 0.01), rel=1e-3)
