"""Distance of two images as a classifier sees them."""

import torch
from torch import Tensor, nn

from restoration.backbone import Encoder
from restoration.backbone.perceptual import perceptual_distance
from restoration.objective.errors import PixelError


class PerceptualError(nn.Module, PixelError):
    """`perceptual_distance` over an encoder.

    The encoder is fixed. A distance over the same encoder is no evidence for a restorer trained with it.

    Args:
        encoder: with pretrained weights; random ones measure little more than pixels.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "PerceptualError":
        """Stays in eval mode: random weights would learn batch statistics."""
        return super().train(False)

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.encoder(target)
        return perceptual_distance(self.encoder(prediction), wanted)
