"""Distance of two images as a network sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize


def perceptual_distance(maps: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """The squared distance of features, each position normalised over its channels: summed over channels, averaged over
    positions, then over the maps. This is LPIPS without its learned weights (Zhang et al. 2018, "The unreasonable
    effectiveness of deep features"), over any network.

    Args:
        maps, others: feature maps of the two sets of images, each (B, C_i, h_i, w_i).

    Returns:
        float32 (B,) in [0, 4].
    """
    distances = [
        (normalize(own.float()) - normalize(other.float())).square().sum(1).mean((1, 2))
        for own, other in zip(maps, others, strict=True)
    ]
    return torch.stack(distances).mean(dim=0)
