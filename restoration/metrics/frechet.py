"""Fréchet and perceptual distance of images, over the features of a network that gives the distances their name.

The Fréchet distance is biased: it falls with the number of images, by more than the width of its interval, until there
are many times more images than features. Compare only distances of the same number of images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restoration.backbone import Encoder
from restoration.backbone.pretrained import facts_of
from restoration.classifier import Classifier
from restoration.classifier.maps import FeatureMaps
from restoration.classifier.model import ENCODER
from restoration.errors import UserError
from restoration.metrics.fid import NAME as FID
from restoration.metrics.fid import Inception

PREFIX = "frechet_"
GROUPS = 10  # of images, for the jackknife interval of a distance


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches; float64, on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros((), dtype=torch.float64)  # becomes (D,)
        self.outer = torch.zeros((), dtype=torch.float64)  # becomes (D, D)

    def update(self, features: Tensor) -> None:
        """Adds features (B, D)."""
        features = features.detach().cpu().double()
        self.count += len(features)
        self.total = self.total + features.sum(dim=0)
        self.outer = self.outer + features.T @ features

    @property
    def mean(self) -> Tensor:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D), unbiased. Raises ValueError if there are fewer than two images."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, not {self.count}")
        return (self.outer - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics) -> float:
    """|m - m'|² + tr(C + C' - 2 (C C')^½) (Dowson & Landau 1982), between Gaussians with the moments of the two sets.

    The trace of the root is computed from the eigenvalues of the symmetric C^½ C' C^½. Unlike a general matrix square
    root, it stays real and finite when there are fewer images than features. NaN if a feature is not finite.
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
    """Statistics of images in `GROUPS` groups by their index, so that any group can be left out."""

    def __init__(self) -> None:
        self.groups = [FeatureStatistics() for _ in range(GROUPS)]

    def update(self, features: Tensor, index: Tensor) -> None:
        """Adds features (B, D) of the images with these indices (B,)."""
        for number, group in enumerate(self.groups):
            group.update(features[index % GROUPS == number])

    def joined(self, without: int | None = None) -> FeatureStatistics:
        """The statistics of all images, or of all but one group."""
        joined = FeatureStatistics()
        for number, group in enumerate(self.groups):
            if number != without:
                joined.count += group.count
                joined.total = joined.total + group.total
                joined.outer = joined.outer + group.outer
        return joined


def frechet_left_out(samples: Sequence[GroupedStatistics], other: GroupedStatistics) -> list[float] | None:
    """The mean distance of the samples to the other images without each group, for `bootstrap.jackknife`.

    A group is left out on both sides, because both have the same images. None if a group has fewer than two images.
    """
    if any(group.count < 2 for statistics in (*samples, other) for group in statistics.groups):
        return None
    references = [other.joined(without) for without in range(GROUPS)]
    return [
        sum(frechet_distance(sample.joined(without), reference) for sample in samples) / len(samples)
        for without, reference in enumerate(references)
    ]


class FrechetDistance:
    """Features for distances: of sets of images (Fréchet), the spatial mean of an encoder's last feature map; of two
    images, `perceptual_distance` over all maps.

    They are not FID and LPIPS, which are defined by networks of their own (`fid.Inception` is that of the FID). A
    distance over another network carries that network's name, and is no evidence for a model that was trained on these
    features.

    It is deliberately not an nn.Module: as a submodule its weights would enter the optimizer, the moving averages and
    the checkpoints.

    Args:
        encoder: maps images (B, 3, H, W) in [−1, 1] to a list of feature maps, the last one (B, D, h, w), as
            `backbone.Encoder` does. It is set to eval mode and frozen.
        name: the key of the Fréchet distance, such as `frechet_resnet34_tin`.

    Attributes:
        perceptual: the key of the perceptual distance, `perceptual_resnet34_tin`.
    """

    def __init__(self, encoder: nn.Module, name: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.name = name
        self.perceptual = f"perceptual_{name.removeprefix(PREFIX)}"

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (B, 3, H, W), which are clamped to [0, 1]; on their device, without autocast."""
        self.encoder.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return self.encoder(2 * images.float().clamp(0.0, 1.0) - 1)

    @staticmethod
    def pooled(maps: list[Tensor]) -> Tensor:
        """Features (B, D) for the Fréchet distance from `maps`."""
        return maps[-1].mean(dim=(2, 3))

    def features(self, images: Tensor) -> Tensor:
        """float32 (B, D) from images as `maps` takes them."""
        return self.pooled(self.maps(images))


def classifier_distance(classifier: Classifier) -> FrechetDistance:
    """The distances over the features of a classifier, named after its run. UserError if it does not give them."""
    return FrechetDistance(FeatureMaps(classifier), f"{PREFIX}{classifier.label}")


def encoder_distance(encoder: dict[str, Any] | None) -> FrechetDistance | None:
    """The Fréchet distance over the features of an encoder as it was before training; None for random weights.

    Args:
        encoder: the config of `backbone.encoder`; None if the backbone has none. The model `inception` gives the FID.
    """
    if encoder is None:
        return None
    if encoder["model"] == FID:
        if encoder.get("stem"):
            raise UserError(f"frechet.model={FID} has no choice of a stem; leave frechet.stem out")
        return FrechetDistance(Inception(encoder.get("weights")), f"{PREFIX}{FID}")
    model, weights = encoder["model"], str(encoder["weights"])
    if weights == "random":
        return None
    # Every run of `pretrain` writes a file of the same name; which run it was stands inside.
    own = facts_of(Path(weights)).get("run") if Path(weights).name == ENCODER else None
    name = own or (Path(weights).stem if Path(weights).suffix else f"{model}_{weights}")
    # The short name of the data set in docs/protocol.md.
    name = name.replace("tiny_imagenet", "tin").replace(".", "_")
    # Another stem gives other features of the same weights: its distances are not comparable.
    name += "" if own or encoder["stem"] == "no_pool" else f"_{encoder['stem']}"
    return FrechetDistance(Encoder(model, weights, encoder["stem"]), f"{PREFIX}{name}")
