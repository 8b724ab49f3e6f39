"""How far a figure of images would move with as many other images of the same kind."""

from collections.abc import Sequence

import numpy as np

__all__ = ["Bootstrap", "jackknife"]

# 97.5 % of Student's t with nine degrees of freedom.
_STUDENT = 2.262


def jackknife(value: float, left_out: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a figure from what it is without each of ten groups of images (Efron 1982).

    The figures of two runs on the same images have an interval of their difference in the differences of both.
    """
    margin = _STUDENT * float(np.sqrt(9 * np.var(left_out)))
    return value - margin, value + margin


class Bootstrap:
    """Percentile bootstrap over the images of one evaluation (Efron 1979).

    The same resamples serve every figure, so that two figures of one evaluation are compared on the same draws.

    Args:
        n: number of images.
        resamples: how many sets of n images are drawn, with replacement.
        level: probability that the interval shall hold.
        seed: of the draws.
    """

    def __init__(self, n: int, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> None:
        if n < 1:
            raise ValueError("there are no images to take a mean over")
        generator = np.random.default_rng(seed)
        draws = (np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(resamples))
        self._weights = np.stack([draw.astype(np.float32) for draw in draws])
        self._percentiles = (50.0 * (1.0 - level), 50.0 * (1.0 + level))

    def mean(self, values: np.ndarray) -> tuple[float, float, float]:
        """(mean, low, high) of the values (n,); NaN marks an image without one. All NaN if there are none."""
        return self.ratio(values, np.ones(len(values)))

    def ratio(self, values: np.ndarray, references: np.ndarray) -> tuple[float, float, float]:
        """(ratio, low, high) of the sum of the values (n,) to the sum of the references (n,), images with NaN left
        out of both. All NaN if nothing is left or the references sum to 0."""
        valid = np.isfinite(values) & np.isfinite(references)
        upper, lower = np.where(valid, values, 0.0), np.where(valid, references, 0.0)
        if lower.sum() == 0.0:
            return (float("nan"),) * 3
        upper_sums = self._weights @ upper.astype(np.float32)
        lower_sums = self._weights @ lower.astype(np.float32)
        # A resample may hold no valid image of a small group; it says nothing then.
        drawn = lower_sums > 0.0
        low, high = np.percentile(upper_sums[drawn] / lower_sums[drawn], self._percentiles)
        return float(upper.sum() / lower.sum()), float(low), float(high)
