"""A plain convolutional U-Net that begins at full resolution."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone.base import Backbone
from restoration.backbone.embedding import FourierEmbedding
from restoration.errors import Width
from restoration.estimator import Estimate


class UNet(Backbone):
    """Two convolutions at each resolution, on the way down and up (Ronneberger et al. 2015, "U-Net").

    With its finest level at full resolution and batch normalisation it learns, from random weights, in fewer images
    than `ResNetUNet`, or than itself with group normalisation (docs/log.md). No part of it could run once per image,
    so it is meant for one evaluation or few.

    Borders are mirrored: zeros around an image would tell the network where it is and how large the image is, and it
    would fail on other sizes than those of its training.

    Batch statistics are those of a process; on several GPUs set trainer.sync_batchnorm=true.

    Args:
        widths: channels from the full resolution down, one for each halving and one more.
        embedding: width of the embedding of time.
    """

    def __init__(self, widths: tuple[Width, ...] = (16, 32, 64, 128, 256, 256), embedding: Width = 128) -> None:
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        self.time = FourierEmbedding(embedding)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        # x_in, the degraded image, the initial estimate, the hole and the residual std.
        self.stem = Level(11, widths[0], embedding)
        self.down = nn.ModuleList(Level(fine, coarse, embedding, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(Level(fine + coarse, fine, embedding) for fine, coarse in reversed(pairs))
        self.head = nn.Conv2d(widths[0], 3, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        spread = estimate.residual_std.clamp(min=1e-3).log()
        return torch.cat([degraded, estimate.initial, 2 * estimate.hole - 1, spread / 2 + 1], dim=1)

    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        time = F.silu(self.time(t))
        hidden = self.stem(torch.cat([x_in, features], dim=1), time)
        skips = []
        for level in self.down:
            skips.append(hidden)
            hidden = level(hidden, time)
        for level, skip in zip(self.up, reversed(skips), strict=True):
            hidden = F.interpolate(hidden, size=skip.shape[-2:], mode="nearest")
            hidden = level(torch.cat([hidden, skip], dim=1), time)
        return self.head(_mirrored(hidden)).float()


class Level(nn.Module):
    """Two convolutions with batch normalisation, the first shifted by the time.

    Args:
        channels: of its input.
        width: of its output.
        embedding: width of the time's.
        stride: of the first convolution.
    """

    def __init__(self, channels: int, width: int, embedding: int, stride: int = 1) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, stride, bias=False)
        self.enter_norm = nn.BatchNorm2d(width)
        self.shift = nn.Linear(embedding, width)
        self.leave = nn.Conv2d(width, width, 3, bias=False)
        self.leave_norm = nn.BatchNorm2d(width)

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        """(B, width, H / stride, W / stride) from (B, channels, H, W) and the embedding of the time (B, embedding)."""
        hidden = self.enter_norm(self.enter(_mirrored(images))) + self.shift(time)[:, :, None, None]
        return F.relu(self.leave_norm(self.leave(_mirrored(F.relu(hidden)))))


def _mirrored(images: Tensor) -> Tensor:
    """With one more pixel on each side, (B, C, H + 2, W + 2)."""
    with torch.autocast(images.device.type, enabled=False):  # which would pad in float32
        return F.pad(images, (1, 1, 1, 1), "reflect" if min(images.shape[-2:]) > 1 else "replicate")
