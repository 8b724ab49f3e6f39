"""The U-Net whose encoder sees the flow's state at every evaluation: the baseline that encoding once has to match."""

from torch import Tensor

from restoration.backbone.base import Context
from restoration.backbone.encoder import Encoder
from restoration.backbone.resnet_unet import ResNetUNet

__all__ = ["ResNetUNetState"]


class ResNetUNetState(ResNetUNet):
    """`ResNetUNet`, decoder and all, but the encoder sees what x_t tells beside the degraded image.

    Its first convolution is widened by channels that start at zero and train with the decoder, so the pretrained
    weights load unchanged. Nothing that the encoder finds can be kept from one evaluation to the next.

    Args:
        encoder: of the degraded image and of the evidence (`flow.evidence`); its first convolution is widened here.
        widths, depth, embedding, identity_path: as in `ResNetUNet`.

    Raises:
        ValueError: as `ResNetUNet`.
    """

    def __init__(
        self,
        encoder: Encoder,
        widths: tuple[int, ...] = (64, 128, 256, 384),
        depth: int = 2,
        embedding: int = 256,
        identity_path: bool = True,
    ) -> None:
        encoder.widen(3)
        super().__init__(encoder, widths, depth, embedding, identity_path)

    def encode(self, degraded: Tensor) -> Context:
        return self.glance(degraded)

    def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
        local, description = context.cache
        cached = self.skips(self.encoder(context.base, evidence), local)
        return self.decode(evidence, t, cached, description)
