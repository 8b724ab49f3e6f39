"""What the network believes of the damage: where the hole is, and how far the rest is from clean."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ErrorHead", "HoleHead", "fill"]

# Blur at severity ½ leaves about this error, as a logarithm.
_TYPICAL = -3.0
# Below this share of the pixels no hole is seen, and its size says nothing.
_LEAST_HOLE = 0.002


class HoleHead(nn.Module):
    """Estimates the hole per pixel, from the degraded image alone.

    Erased pixels are exactly black, which few others of a blurred picture are: that is where the estimate starts
    from, and what the network corrects (a night sky; white pixels among salt and pepper). It runs at half
    resolution; dilation gives it a view of about thirty pixels.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.network = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(20, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=4, dilation=4),
            nn.SiLU(),
            last,
            nn.PixelShuffle(2),
        )

    def forward(self, degraded: Tensor) -> Tensor:
        """Log-odds float32 (B, 1, H, W) that a pixel was erased, from (B, 3, H, W) in [−1, 1]."""
        # 1 at the extreme, 1/e one grey level from it: more than a convolution in 16 bits could tell.
        levels = ((degraded + 1) * 127.5).clamp(0, 255)
        black = (-levels.amax(dim=1, keepdim=True)).exp()
        white = (levels.amin(dim=1, keepdim=True) - 255).exp()
        # Log-odds of ±4: 98 % certain to begin with.
        return self.network(torch.cat([degraded, black, white], dim=1)).float() + (8 * black - 4)


class ErrorHead(nn.Module):
    """Estimates per image how far the known region is from clean.

    The error is read from local features averaged over the known region (sharpness), and from the size of the hole
    where there is one: in training the two grow together, and a smooth picture is not told from a blurred one by
    sharpness alone. Half of the training images are judged by sharpness only, so that a picture without a hole is
    not taken for an intact one.

    Args:
        local: channels of the local features, at half resolution.
        hidden: width of its layer.
    """

    def __init__(self, local: int, hidden: int = 64) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2 * local + 2, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, local: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """The log error (B,) from local features (B, C, H/2, W/2) and the hole (B, 1, H, W) in [0, 1]; also the
        features' statistics (B, 2·C)."""
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
        log_error = self.network(torch.cat([statistics, seen, 10 * area * seen], dim=1)).float()[:, 0]
        return log_error + _TYPICAL, statistics


@torch.no_grad()
def fill(images: Tensor, known: Tensor, relaxations: int = 4) -> Tensor:
    """A smooth filling of what is not known: pull-push (Gortler et al. 1996, "The Lumigraph").

    Weighted means go down a pyramid until one pixel is left, then up again to where weight is missing. On each level
    a few averages over neighbours take away the grid's traces; the result is close to the harmonic filling.

    Args:
        images: (B, 3, H, W).
        known: (B, 1, H, W) in [0, 1], the weight of a pixel; where it is 1 the image stays as it is.
        relaxations: averages over neighbours per level.

    Returns:
        float32 (B, 3, H, W). No gradient.
    """
    with torch.autocast(images.device.type, enabled=False):
        weights = [known.float()]
        sums = [images.float() * weights[0]]
        while max(sums[-1].shape[-2:]) > 1:
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
