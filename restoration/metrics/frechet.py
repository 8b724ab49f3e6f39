"""Fréchet distance between two sets of images, over the features of a network that is named with the figure.

Its value falls with the number of images, by more than its interval is wide, until they are many times the features:
compare distances of the same number of images only.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["FeatureStatistics", "FrechetDistance", "GroupedStatistics", "frechet_distance", "frechet_left_out"]

GROUPS = 10
"""Into which images are dealt, for the interval of a Fréchet distance (`bootstrap.jackknife` wants ten)."""


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches; float64, on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros(0, dtype=torch.float64)
        self.outer = torch.zeros(0, 0, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Adds features (B, D)."""
        features = features.detach().cpu().double()
        if len(self.total) == 0:
            self.total = torch.zeros(features.shape[1], dtype=torch.float64)
            self.outer = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        self.count += len(features)
        self.total += features.sum(dim=0)
        self.outer += features.T @ features

    @property
    def mean(self) -> Tensor:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D), unbiased.

        Raises:
            ValueError: fewer than two images were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, and {self.count} were seen")
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics) -> float:
    """|m - m'|² + tr(C + C' - 2 (C C')^½) (Dowson & Landau 1982), between Gaussians with the two sets' moments.

    The trace of the root is the sum of the roots of the eigenvalues of C^½ C' C^½, which is symmetric: unlike a
    general matrix square root this stays real and finite when there are fewer images than features.

    Returns:
        The distance; NaN where a feature is not finite.

    Raises:
        ValueError: a set of fewer than two images.
    """
    covariance, covariance_other = one.covariance, other.covariance
    if not (covariance.isfinite().all() and covariance_other.isfinite().all()):
        return float("nan")
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    root = (vectors * eigenvalues.clamp(min=0.0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ covariance_other @ root).clamp(min=0.0).sqrt().sum()
    distance = (one.mean - other.mean).square().sum() + covariance.trace() + covariance_other.trace() - 2.0 * overlap
    return max(float(distance), 0.0)


class GroupedStatistics:
    """Statistics of images dealt into groups by their index, so that any group can be left out."""

    def __init__(self) -> None:
        self.groups = [FeatureStatistics() for _ in range(GROUPS)]

    def update(self, features: Tensor, index: Tensor) -> None:
        """Adds features (B, D) of the images of that index (B,)."""
        for number, group in enumerate(self.groups):
            group.update(features[index % GROUPS == number])

    def joined(self, without: int | None = None) -> FeatureStatistics:
        """Of all images, or of all but one group's."""
        joined = FeatureStatistics()
        for number, group in enumerate(self.groups):
            if number != without and group.count:
                joined.count += group.count
                joined.total = joined.total + group.total if len(joined.total) else group.total
                joined.outer = joined.outer + group.outer if len(joined.outer) else group.outer
        return joined


def frechet_left_out(samples: Sequence[GroupedStatistics], other: GroupedStatistics) -> list[float] | None:
    """The mean of the samples' distances to the others without one group of images, for each group: what
    `bootstrap.jackknife` makes an interval of.

    A group is left out of both sides at once, as the images are the same ones. None where a group is empty: there are
    too few images.
    """
    if any(group.count < 2 for statistics in (*samples, other) for group in statistics.groups):
        return None
    references = [other.joined(without) for without in range(GROUPS)]
    return [
        sum(frechet_distance(sample.joined(without), reference) for sample in samples) / len(samples)
        for without, reference in enumerate(references)
    ]


class FrechetDistance:
    """Features for a Fréchet distance: the spatial mean of an encoder's last feature map.

    Not FID: that name belongs to one Inception network's features. Figures over another network are called by that
    network's name, and say nothing about a model that was trained on those very features.

    It is no nn.Module and must not become a part of one: its weights would enter that module's optimizer, its
    moving averages and its checkpoints.

    Args:
        encoder: maps images (B, 3, H, W) in [−1, 1] to a list of feature maps, the last one (B, D, h, w), as
            `backbone.Encoder` does. It is put in eval mode and its gradients are switched off.
        name: the key of the figure, such as `frechet_resnet34_tin`.
    """

    def __init__(self, encoder: nn.Module, name: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.name = name

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """float32 (B, D) from images (B, 3, H, W), clamped to [0, 1] here; runs where the images are, without
        autocast."""
        self.encoder.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return self.encoder(2 * images.float().clamp(0.0, 1.0) - 1)[-1].mean(dim=(2, 3))
