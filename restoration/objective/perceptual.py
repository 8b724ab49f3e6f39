"""Distance of two images as a classifier sees them."""

import torch
from torch import Tensor, nn

from restoration.backbone import Encoder
from restoration.objective.errors import PixelError


class PerceptualError(nn.Module, PixelError):
    """The squared distance of an encoder's features, each position normalised over its channels: summed over
    channels, averaged over positions, then over the maps (LPIPS without its learned weights; Zhang et al. 2018, "The
    unreasonable effectiveness of deep features").

    The encoder is fixed. A Fréchet distance over the same encoder is no evidence for a restorer trained with it.

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
        distances = [
            (nn.functional.normalize(own.float()) - nn.functional.normalize(other.float())).square().sum(1).mean((1, 2))
            for own, other in zip(self.encoder(prediction), wanted, strict=True)
        ]
        return torch.stack(distances).mean(dim=0)
