"""The decoder of another package, to compare with: a regression without an input for the time."""

from typing import Any

from torch import Tensor, nn

from restoration.backbone.base import Backbone
from restoration.backbone.encoder import Encoder
from restoration.errors import UserError
from restoration.estimator import Estimate

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder from the deepest level up, the package's default."""


class SmpUNet(Backbone):
    """The `Unet` of segmentation_models_pytorch on an encoder.

    It sees the initial estimate of the clean image alone, so only a regression (`source=deterministic`) can train it.

    Args:
        encoder: of the initial estimate; with stem=imagenet and a resnet34, the network is the package's own.

    Raises:
        UserError: the package is not installed; the encoder's strides are not 2, 4, 8, …; in `forward`, t is not 0.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        except ImportError as error:
            raise UserError(
                f"backbone=smp_unet needs segmentation_models_pytorch ({error}): pip install 'restoration[benchmark]'"
            ) from error
        self.encoder = encoder
        self.stride = encoder.strides[-1]
        depth = len(encoder.strides)
        if encoder.strides != [2**level for level in range(1, depth + 1)] or depth > len(WIDTHS):
            raise UserError(
                f"backbone=smp_unet: the encoder's maps have strides {encoder.strides}; its decoder needs 2, 4, 8, … "
                "up to 32, as a ResNet has them"
            )
        widths = WIDTHS[-depth:]
        # The package counts the image itself as the finest map.
        self.decoder = UnetDecoder((3, *encoder.channels), widths, n_blocks=depth)
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # it starts from the initial estimate, as other backbones do
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        maps = [estimate.initial, *self.encoder(estimate.initial)]
        return self.head(self.decoder(maps)).float()

    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        if t.any():
            raise UserError("backbone=smp_unet has no input for the time: train it with experiment=blur_erase_mse")
        output: Tensor = features
        return output

    def pretrained(self) -> dict[str, list[nn.Parameter]]:
        return self.encoder.pretrained_groups()
