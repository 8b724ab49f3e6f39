"""The U-Net whose encoder sees the flow's state at every evaluation: the baseline for encoding once."""

from typing import Annotated, Any

from torch import Tensor

from restoration.backbone.encoder import Encoder
from restoration.backbone.resnet_unet import ResNetUNet
from restoration.errors import Range, Width
from restoration.estimator import Estimate


class ResNetUNetState(ResNetUNet):
    """`ResNetUNet` with an encoder that sees x_in beside the initial estimate.

    Its first convolution is widened by zero-initialised channels, which train with the decoder. The pretrained
    weights load unchanged. No encoder feature can be reused from one evaluation to the next.

    Args:
        encoder: of the initial estimate and of x_in; its first convolution is widened here.
        widths, depth, embedding, two_times, decoupled: as in `ResNetUNet`.

    Raises:
        UserError: as `ResNetUNet`.
    """

    def __init__(
        self,
        encoder: Encoder,
        widths: tuple[Width, ...] = (64, 128, 256, 384),
        depth: Annotated[int, Range(1, 64)] = 2,
        embedding: Width = 256,
        two_times: bool = False,
        decoupled: bool = False,
    ) -> None:
        encoder.widen(3)
        super().__init__(encoder, widths, depth, embedding, two_times, decoupled)

    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        return estimate.initial, *self.local(degraded, estimate)

    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        initial, local, description = features
        # Features may come from autocast, and a derivative outside it.
        cached = self.skips(self.encoder(initial, x_in), local.to(x_in.dtype))
        return self.decode(x_in, t, cached, description, r, noise)
