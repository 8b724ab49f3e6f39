"""Distance of two images as a classifier sees them."""

import torch
from torch import Tensor, nn

from restoration.backbone import Encoder
from restoration.backbone.perceptual import perceptual_distance
from restoration.errors import NotNegative
from restoration.objective.errors import PixelError


class PerceptualError(nn.Module, PixelError):
    """`perceptual_distance` over an encoder.

    The encoder is fixed. A distance over the same encoder is no evidence for a restorer trained with it.

    Args:
        encoder: with pretrained weights; random ones measure little more than pixels.
        pixels: an error that is added; None: the features decide alone.
        weight: of the features beside it.
    """

    def __init__(self, encoder: Encoder, pixels: PixelError | None = None, weight: NotNegative = 1.0) -> None:
        super().__init__()
        self.pixels = pixels
        self.weight = weight
        self.encoder = encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "PerceptualError":
        """Stays in eval mode: random weights would learn batch statistics."""
        return super().train(False)

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.encoder(target)
        distance = self.weight * perceptual_distance(self.encoder(prediction), wanted)
        return distance if self.pixels is None else distance + self.pixels(prediction, target, mask)
