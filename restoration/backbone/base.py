"""The interface of backbones: encode once per image, then one pass per evaluation of the flow."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from restoration.estimator import Estimate


class Backbone(nn.Module, ABC):
    """The network of the flow.

    What its output means, and what its input `x_in` holds, is the choice of the prediction (`flow.prediction`).

    Attributes:
        stride: heights and widths must be multiples of it.
        two_times: whether it takes r, the end of an interval [t, r]; flow maps need it.
    """

    stride: int = 1
    two_times: bool = False

    @abstractmethod
    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        """Features of the degraded images, computed once per image. Only this backbone reads them.

        Args:
            degraded: (B, 3, H, W) in [−1, 1], without the content of a given mask (`Estimate.observed`).
            estimate: of the degradation.
        """

    @abstractmethod
    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """One evaluation: float32 (B, 3, H, W).

        Args:
            x_in: (B, 3, H, W).
            t: (B,) in [0, 1].
            features: from `encode`.
            r: (B,) in [0, 1], r ≥ t: the output describes the interval [t, r]. None for the instantaneous field, which
                r = t must give, too. A backbone without `two_times` never gets it.
            noise: (B, 3, H, W), comes with r: the source's noise in x_t, standard normal at t = 0, where x_in may tell
                nothing of it.
        """

    def pretrained(self) -> dict[str, list[nn.Parameter]]:
        """Pretrained parameters by the name of their optimiser group; all others are trained from random weights."""
        return {}
