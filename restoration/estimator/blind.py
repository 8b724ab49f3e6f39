"""Estimates the hole and the remaining error from the degraded image, and from the mask if there is one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.errors import Share, Width
from restoration.estimator.base import Estimate, Estimator
from restoration.estimator.fill import fill

# log of a typical error: about what blur at severity ½ leaves.
_TYPICAL_LOG_ERROR = -3.0
# The residual std is this factor above the expected error: an underestimate would limit the restoration.
_MARGIN = 2.0
# Typical error of a filled hole, in [−1, 1] units.
_HOLE_ERROR = 0.25
# A pixel that is a hole with less probability is taken as known, and one that is known with less as a hole: a trace of
# the filling everywhere would cost an intact image 5 dB.
_LEAST_HOLE = 0.1
# Pixels within this distance of one that is certainly a hole may be part of it (`Blind.certainty`).
_NEAR = 32
# Errors below half a grey level, in [−1, 1] units, count as zero.
_ERROR_FLOOR = 0.5 * 2 / 255


@dataclass(frozen=True, kw_only=True)
class BlindEstimate(Estimate):
    """An estimate with what its loss needs.

    Attributes:
        hole_logit: (B, 1, H, W), log-odds that a pixel was erased, as the network gives them.
        log_error: (B,), log of the root mean square of clean − degraded outside the hole, [−1, 1] units.
    """

    hole_logit: Tensor
    log_error: Tensor


class Blind(Estimator):
    """Estimates the hole per pixel and the error of the rest per image.

    The initial estimate is the degraded image with a smooth filling of the hole. A probability below 10 % counts as
    none, one above 90 % as certainty. The residual std is ½ in the hole, and twice the expected error elsewhere. Both
    are trained on targets of their own: with gradients of the restoration loss, the network reduced the residual std
    instead of learning to deblur.

    Args:
        width: channels.
        condition_on_mask: every other image of a training batch comes with its mask, which replaces the estimated hole;
            without, masks are for restoring only.
        certainty: a hole is believed only if one of its pixels, or another within 32 pixels, is a hole with at least
            this probability; 0 believes all. Where holes have any content, most of what is merely likely is false.
        frozen: weights and batch statistics stay as they are, for training a restorer on a trained estimator.
    """

    def __init__(
        self, width: Width = 32, condition_on_mask: bool = True, certainty: Share = 0.0, frozen: bool = False
    ) -> None:
        super().__init__()
        self.condition_on_mask = condition_on_mask
        self.certainty = certainty
        self.frozen = frozen
        self.damage = DamageNetwork(width).requires_grad_(not frozen)
        self.train()

    def train(self, mode: bool = True) -> "Blind":
        super().train(mode)
        self.damage.train(mode and not self.frozen)
        return self

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> BlindEstimate:
        given = None
        if mask is not None and not mask.is_floating_point():
            # In training every other image is blind. The order of the images is random already.
            with_mask = torch.arange(mask.shape[0], device=mask.device)[:, None, None, None] % 2 == 1
            with_mask = with_mask if self.training else torch.ones_like(with_mask)
            given = mask & with_mask
            if not self.training:  # in training the hole is to be found from its content
                degraded = degraded.where(~given, fill(degraded, (~given).float()))
        hole_logit, features = self.damage(degraded)
        probability = torch.sigmoid(hole_logit.detach())
        hole = ((probability - _LEAST_HOLE) / (1 - 2 * _LEAST_HOLE)).clamp(0, 1)
        if self.certainty:
            hole = hole * (_largest_near(probability, _NEAR) >= self.certainty)
        if given is not None:
            hole = torch.where(with_mask, given.to(hole), hole)
        elif mask is not None:
            hole = torch.maximum(hole, mask)
        # Only pixels that are surely known may spread: on coarse pyramid levels a trace of black would dominate.
        filled = fill(degraded, (1 - 4 * hole).clamp(min=0))
        initial = degraded + hole * (filled - degraded)
        log_error = self.damage.log_error(features, hole)
        # Less than the floor of the target is exactly nothing: an intact image stays as it is.
        known = (_MARGIN * (log_error.detach().exp() - _ERROR_FLOOR)).clamp(0.0, 1.0)
        residual_std = hole * _MARGIN * _HOLE_ERROR + (1 - hole) * known[:, None, None, None]
        return BlindEstimate(initial, residual_std, hole, given, hole_logit=hole_logit, log_error=log_error)

    def loss(self, estimate: Estimate, degraded: Tensor, clean: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the hole, and a tenth of the squared error of the log error. The mask is a target only."""
        assert isinstance(estimate, BlindEstimate)
        hole = F.binary_cross_entropy_with_logits(estimate.hole_logit.float(), mask.float())
        known = (~mask).float()
        square = (clean - degraded).square().mean(dim=1, keepdim=True)
        mean_square = (square * known).sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3)).clamp(min=1)
        log_error = (mean_square + _ERROR_FLOOR**2).log() / 2
        return {"hole": hole, "error": 0.1 * (estimate.log_error - log_error).square().mean()}


class DamageNetwork(nn.Module):
    """A small U-Net: what was erased, per pixel, and how far the rest is from the clean image, per image.

    It begins at full resolution, where a scratch and the grid of a JPEG are. With batch normalisation it learns in a
    fraction of the images that it needs without (docs/log.md).

    Exactly black pixels are often erased; others rarely are. The estimate of the hole starts from that, far from
    certainty, and the network learns which black areas belong to the image and which holes have another content.
    It also sees where neighbours are equal, as in a hole of one colour and hardly ever in a photograph.

    Args:
        width: channels; half as many at full resolution.
        halvings: resolutions below the full one. What tells a white hole from a white wall is its outline.
    """

    def __init__(self, width: int, halvings: int = 4) -> None:
        super().__init__()
        fine = max(8, width // 2)
        self.stem = nn.Sequential(_convolution(6, fine), _convolution(fine, fine))
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(width if level else fine, width, 2), _convolution(width, width))
            for level in range(halvings)
        )
        self.up = nn.ModuleList(_convolution(2 * width, width) for _ in range(halvings - 1))
        self.lift = _convolution(width, fine)
        self.hole = nn.Sequential(_convolution(2 * fine, fine), nn.Conv2d(fine, 1, 3, padding=1))
        # The statistics of two levels and of the full resolution.
        self.error = nn.Sequential(nn.Linear(2 * (fine + 2 * width), 2 * width), nn.SiLU(), nn.Linear(2 * width, 1))
        for layer in (self.hole[1], self.error[2]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, degraded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The hole, and features for `log_error`, of images (B, 3, H, W) in [−1, 1].

        Returns:
            log-odds float32 (B, 1, H, W) that a pixel was erased; the maps of the three finest levels.
        """
        # 1 at the extreme value, 1/e one grey level away: finer than a 16-bit convolution can resolve.
        levels = ((degraded + 1) * 127.5).clamp(0, 255)
        black = (-levels.amax(dim=1, keepdim=True)).exp()
        white = (levels.amin(dim=1, keepdim=True) - 255).exp()
        maps = [self.stem(torch.cat([degraded, black, white, equal_neighbours(levels)], dim=1))]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        hidden = maps[-1]
        for layer, skip in zip(self.up, maps[-2:0:-1], strict=True):
            hidden = layer(torch.cat([_enlarged(hidden, skip), skip], dim=1))
        hidden = torch.cat([_enlarged(self.lift(hidden), maps[0]), maps[0]], dim=1)
        # At first a black pixel is a hole with probability 73 %, another one with 5 %.
        return self.hole(hidden).float() + (4 * black - 3), maps[:3]

    def log_error(self, features: list[Tensor], hole: Tensor) -> Tensor:
        """The log error (B,) of the known region, from `forward`'s features and the hole (B, 1, H, W) in [0, 1]."""
        statistics = [known_statistics(level, hole, halvings) for halvings, level in enumerate(features)]
        return self.error(torch.cat(statistics, dim=1)).float()[:, 0] + _TYPICAL_LOG_ERROR


def equal_neighbours(levels: Tensor) -> Tensor:
    """The share (B, 1, H, W) of each pixel's 8 neighbours that have its colour; of one grey level away, 1/e counts.

    Args:
        levels: (B, 3, H, W) in grey levels [0, 255]. Beyond the border nothing is equal.
    """
    height, width = levels.shape[-2:]
    around = F.pad(levels, (1, 1, 1, 1), value=-255.0)
    total = torch.zeros_like(levels[:, :1])
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                neighbour = around[..., row : row + height, column : column + width]
                total = total + (-(neighbour - levels).abs().amax(dim=1, keepdim=True)).exp()
    return total / 8


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _largest_near(images: Tensor, distance: int) -> Tensor:
    """The largest value within a square around each pixel, by rows and then by columns."""
    side = 2 * distance + 1
    rows = F.max_pool2d(images, (1, side), stride=1, padding=(0, distance))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(distance, 0))


def _enlarged(images: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(images, size=like.shape[-2:], mode="nearest")


def known_statistics(features: Tensor, hole: Tensor, halvings: int = 1) -> Tensor:
    """Mean and log energy of each feature over the known region: float32 (B, 2·C).

    Args:
        features: (B, C, H / 2^halvings, W / 2^halvings), rounded up.
        hole: (B, 1, H, W) in [0, 1].
        halvings: between the hole's resolution and that of the features.
    """
    known = 1 - hole
    for _ in range(halvings):
        known = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    weight = known / known.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
    features = features.float()
    mean = (features * weight).sum(dim=(2, 3))
    energy = (features.square() * weight).sum(dim=(2, 3))
    return torch.cat([mean, (energy + 1e-4).log()], dim=1)
