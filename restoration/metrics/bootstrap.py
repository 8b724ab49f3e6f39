"""Confidence intervals over images, at the 95 % level."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

RESAMPLES = 1000


def jackknife(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """Interval of a value from its values without each of several groups of images (Efron 1982).

    For the difference of two runs on the same images, pass the differences of their values.
    """
    groups = len(left_out)
    margin = float(stats.t.ppf(0.975, groups - 1) * np.sqrt((groups - 1) * np.var(left_out)))
    return value - margin, value + margin


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) of the values (n,), as `bootstrap_ratio` with references of 1."""
    return bootstrap_ratio(values, np.ones(len(values)), seed)


def bootstrap_ratio(values: np.ndarray, references: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """(ratio, low, high) of the sum of the values (n,) to the sum of the references (n,).

    The interval is a percentile bootstrap over images (Efron 1979). Images with NaN in either array are left out.

    Returns:
        All NaN if no image is left or the references sum to 0.
    """
    valid = np.isfinite(values) & np.isfinite(references)
    total = np.where(valid, references, 0.0).sum()
    if total == 0.0:
        return (float("nan"),) * 3
    ratio = float(np.where(valid, values, 0.0).sum() / total)
    if valid.sum() == 1:
        return ratio, ratio, ratio

    def ratio_of_sums(values: np.ndarray, references: np.ndarray, axis: int = -1) -> np.ndarray:
        sums, totals = values.sum(axis=axis), references.sum(axis=axis)
        # Few images can give a resample whose references sum to 0; it then counts as the ratio of all images.
        return np.divide(sums, totals, out=np.full(sums.shape, ratio), where=totals != 0.0)

    low, high = stats.bootstrap(
        (values[valid], references[valid]),
        ratio_of_sums,
        n_resamples=RESAMPLES,
        batch=100,  # resamples in memory at once
        paired=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return ratio, float(low), float(high)
