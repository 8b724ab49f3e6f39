"""Smooth filling of holes."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Halvings in an exported graph, whose loops have a fixed length. They reach a single pixel from up to 4,096 px, and
# further halvings of it change nothing.
EXPORTED_HALVINGS = 12


@torch.no_grad()
def fill(images: Tensor, known: Tensor, relaxations: int = 4) -> Tensor:
    """Smooth filling of unknown pixels by pull-push (Gortler et al. 1996, "The Lumigraph"). No gradient.

    Weighted means are taken down a pyramid to a single pixel, then back up to where weight is missing. A few averages
    over neighbours per level remove the traces of the grid. The result is close to the harmonic filling.

    Args:
        images: (B, 3, H, W).
        known: (B, 1, H, W) in [0, 1], the weight of a pixel; where it is 1, the image is unchanged.
        relaxations: averages over neighbours per level.

    Returns:
        float32 (B, 3, H, W).
    """
    with torch.autocast(images.device.type, enabled=False):
        weights = [known.float()]
        sums = [images.float() * weights[0]]
        fixed = torch.compiler.is_exporting()
        while len(sums) <= EXPORTED_HALVINGS if fixed else max(sums[-1].shape[-2:]) > 1:
            total, weight = (
                4 * F.avg_pool2d(finer[-1], 2, ceil_mode=True, count_include_pad=False) for finer in (sums, weights)
            )
            weights.append(weight.clamp(max=1.0))
            sums.append(total * (weights[-1] / weight.clamp(min=1e-6)))
        filled = sums[-1] / weights[-1].clamp(min=1e-6)
        neighbours = images.new_tensor([[1, 2, 1], [2, 0, 2], [1, 2, 1]]).float().div(12).expand(3, 1, 3, 3)
        for total, weight in zip(sums[-2::-1], weights[-2::-1], strict=True):
            around = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
            filled = total + (1 - weight) * around
            for _ in range(relaxations):
                around = F.conv2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), neighbours, groups=3)
                filled = total + (1 - weight) * around
        return filled
