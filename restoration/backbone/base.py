"""What every backbone offers: encode once per image, then one pass per evaluation of the flow."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Backbone", "Context", "DamageEstimate"]


@dataclass
class DamageEstimate:
    """What the network believes of the damage; blind, from the degraded image alone.

    Attributes:
        hole_logit: (B, 1, H, W), log-odds that a pixel was erased.
        log_error: (B,), log of the root mean square of clean − degraded over the known region, [−1, 1] units.
    """

    hole_logit: Tensor
    log_error: Tensor


@dataclass
class Context:
    """All that a backbone derives from the degraded image, computed once per image.

    Attributes:
        degraded: (B, 3, H, W) in [−1, 1].
        base: (B, 3, H, W) in [−1, 1], what the network changes: the degraded image, its hole smoothly filled.
        scale: (B, 1, H, W) in [−1, 1] units, how far the clean value of a pixel may lie from the base: twice the
            expected error.
        cache: the backbone's own tensors.
        damage: its estimate of the damage.
        mean: (B, 3, H, W) in [−1, 1], of x_0; the restorer, who knows the source, fills it in.
        deviation: (B, 1, H, W), standard deviation of x_0's noise, likewise.
    """

    degraded: Tensor
    base: Tensor
    scale: Tensor
    cache: Any
    damage: DamageEstimate
    mean: Tensor = field(default_factory=lambda: torch.empty(0))
    deviation: Tensor = field(default_factory=lambda: torch.empty(0))


class Backbone(nn.Module, ABC):
    """The network of the flow.

    Attributes:
        stride: heights and widths must be multiples of it.
    """

    stride: int

    @abstractmethod
    def encode(self, degraded: Tensor) -> Context:
        """Context of degraded images (B, 3, H, W) in [−1, 1]."""

    @abstractmethod
    def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
        """The clean image less the context's base, in units of the context's scale.

        Args:
            evidence: (B, 3, H, W), what x_t tells of just that (`flow.evidence`); 0 at t = 0.
            t: (B,) in [0, 1].
            context: of the degraded images.

        Returns:
            float32 (B, 3, H, W).
        """

    def stages(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the name of the training group they belong to."""
        return {"decoder": list(self.parameters())}
