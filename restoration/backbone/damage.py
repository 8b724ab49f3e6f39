"""The known region's identity path: how much of each pixel the network may change."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone.base import DamageEstimate

__all__ = ["DamageHead"]

# Blur at severity ½ leaves about this error, as a logarithm.
_TYPICAL = -3.0
# Below this share of the pixels no hole is seen, and its size says nothing.
_LEAST_HOLE = 0.002


class DamageHead(nn.Module):
    """Estimates the hole per pixel, and per image how far the known region is from clean.

    The error is read from local features averaged over the known region (sharpness), and from the size of the hole
    where there is one: in training the two grow together, and a smooth picture is not told from a blurred one by
    sharpness alone. Half of the training images are judged by sharpness only, so that a picture without a hole is
    not taken for an intact one.

    Args:
        local: channels of the local features, at half resolution.
        encoder: channels of an encoder map, for the hole's wider surroundings.
    """

    def __init__(self, local: int, encoder: int, hidden: int = 64) -> None:
        super().__init__()
        self.surroundings = nn.Conv2d(encoder, local, 1)
        self.hole = nn.Sequential(
            nn.Conv2d(local, local, 3, padding=1), nn.SiLU(), nn.Conv2d(local, 4, 3, padding=1), nn.PixelShuffle(2)
        )
        self.error = nn.Sequential(nn.Linear(2 * local + 2, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, local: Tensor, encoder: Tensor) -> tuple[DamageEstimate, Tensor]:
        """From local features (B, C, H/2, W/2) and an encoder map; also their statistics (B, 2·C)."""
        around = F.interpolate(self.surroundings(encoder), size=local.shape[-2:], mode="nearest")
        hole_logit = self.hole(local + around).float()
        hole = torch.sigmoid(hole_logit.detach())
        known = 1 - F.avg_pool2d(hole, 2)
        weight = known / known.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
        features = local.float()
        mean = (features * weight).sum(dim=(2, 3))
        energy = (features.square() * weight).sum(dim=(2, 3))
        statistics = torch.cat([mean, (energy + 1e-4).log()], dim=1)

        area = (hole > 0.5).float().mean(dim=(1, 2, 3))[:, None]
        seen = (area > _LEAST_HOLE).float()
        if self.training:
            # Every other image, whatever the seed: the order of the images is random already.
            seen = seen * (torch.arange(len(seen), device=seen.device) % 2)[:, None]
        # The hole's share of the image is at most a few tenths; the factor brings it to the size of the statistics.
        log_error = self.error(torch.cat([statistics, seen, 10 * area * seen], dim=1)).float()[:, 0]
        return DamageEstimate(hole_logit, log_error + _TYPICAL), statistics
