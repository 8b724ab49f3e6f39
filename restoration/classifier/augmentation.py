"""Variations of labelled training images, on their device: crops in batch, torchvision's RandAugment and mixtures."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from restoration.errors import NFE, Count, NotNegative, Range, Share


@dataclass(frozen=True)
class Restored:
    """Damaged and restored variants of training images, which keep their labels (`training.restored` makes them).

    Args:
        share: probability that the variant of an image takes its place.
        restorer: a checkpoint or run folder; None for the weights that come with the package.
        nfe: network evaluations of the restorer for an image.
        hard: checkpoint or run folder of an earlier classifier: only the images that it gets wrong have variants ("Do we
            need all the synthetic data?", arXiv 2505.21574); None for all images.
        images: at most so many have variants, drawn at random; None for all.
        seed: of the damage, the restorer's noise, and this draw.
    """

    share: Share = 0.3
    restorer: str | None = None
    nfe: NFE = 1
    hard: str | None = None
    images: Count | None = None
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0


class Augmentation:
    """Crops, RandAugment (Cubuk et al. 2020), mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), in this order.

    All draws come from torch's CPU generator. Mirroring is the data set's matter (`data.flip`).

    Args:
        shift: images are shifted by up to this share of their side, both ways; the border is reflected.
        operations: random operations of RandAugment on each image; 0 leaves it out. Each image by itself, so it is
            slower than the others.
        magnitude: of these operations.
        mixup, cutmix: α of the two mixtures with another image of the batch; 0 leaves one out. With both, half of the
            batches get either.
        mixed: share of the batches that are mixed.
        restored: variants of some images, before all else; None for none.
    """

    def __init__(
        self,
        shift: Annotated[float, Range(0, 0.5)] = 0.0,
        operations: Annotated[int, Range(0, 10)] = 0,
        magnitude: Annotated[int, Range(0, 30)] = 9,
        mixup: NotNegative = 0.0,
        cutmix: NotNegative = 0.0,
        mixed: Share = 1.0,
        restored: Restored | None = None,
    ) -> None:
        self.restored = restored
        self.shift = shift
        self.randomly = v2.RandAugment(operations, magnitude) if operations else None
        self.mixup, self.cutmix, self.mixed = mixup, cutmix, mixed

    @property
    def varies(self) -> bool:
        """Whether it does anything."""
        return bool(self.shift or self.randomly or self.mixup or self.cutmix or self.restored)

    def __call__(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Varied images, and their targets.

        Args:
            images: (B, 3, H, W) in [0, 1].
            labels: int64 (B,).
            classes: number of classes C.

        Returns:
            Images (B, 3, H, W) in [0, 1]; labels (B,), or shares of the classes (B, C) that sum to 1.
        """
        if self.shift:
            images = _shifted(images, round(self.shift * images.shape[-1]))
        if self.randomly is not None:
            pixels = (images * 255).round().byte()
            images = torch.stack([self.randomly(image) for image in pixels]).float() / 255
        kinds = {v2.MixUp: self.mixup, v2.CutMix: self.cutmix}
        mixtures = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds.items() if alpha]
        if mixtures and float(torch.rand(())) < self.mixed:
            mix = mixtures[int(torch.randint(len(mixtures), ()))]
            images, labels = mix(images, labels)
        return images, labels


def _shifted(images: Tensor, most: int) -> Tensor:
    """Each image moved by its own whole numbers of pixels in [−most, most], down and to the right."""
    count, _, height, width = images.shape
    padded = F.pad(images, (most,) * 4, mode="reflect")
    down, right = torch.randint(2 * most + 1, (2, count, 1)).to(images.device)
    rows = torch.arange(height, device=images.device) + down
    columns = torch.arange(width, device=images.device) + right
    each = torch.arange(count, device=images.device)[:, None, None]
    # Indices around the channels put these last.
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
