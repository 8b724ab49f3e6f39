"""What a hole is filled with."""

from typing import Literal

import torch
from torch import Tensor

from restoration.corruption.base import Parameters
from restoration.errors import UserError
from restoration.keyed import fold, uniform

FillKind = Literal["black", "white", "grey", "mean", "colour", "noise", "any"]
_KINDS = ("black", "white", "grey", "mean", "colour", "noise")


class Fill:
    """The content of erased pixels.

    Args:
        kind: black, white, grey (½), mean (of the image), colour (one at random), noise (uniform, per pixel and
            channel), or any: one of the six per image, with equal probability.

    Raises:
        UserError: another kind.
    """

    def __init__(self, kind: FillKind = "black") -> None:
        if kind not in (*_KINDS, "any"):
            raise UserError(f"fill={kind!r}: choose one of {', '.join(_KINDS)}, any")
        self.kind = kind

    def sample(self, keys: Tensor) -> Parameters:
        """Parameters of B images from their keys (B,); none for black."""
        if self.kind == "black":
            return {}
        keys = fold(keys, "fill")
        draws = uniform(keys, 4)
        kind = torch.full((len(keys),), _KINDS.index(self.kind)) if self.kind != "any" else (draws[:, 3] * 6).long()
        constant = torch.tensor([0.0, 1.0, 0.5, 0.0, 0.0, 0.0])[kind]
        colour = torch.where((kind == _KINDS.index("colour"))[:, None], draws[:, :3], constant[:, None])
        return {"fill": kind, "colour": colour, "noise": fold(keys, "noise")}

    def __call__(self, images: Tensor, mask: Tensor, parameters: Parameters) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] with the pixels of the mask, bool (B, 1, H, W), filled."""
        if "fill" not in parameters:
            return images.masked_fill(mask, 0.0)
        kind = parameters["fill"].to(images.device)[:, None, None, None]
        content = parameters["colour"].to(images.device)[:, :, None, None].expand_as(images)
        content = torch.where(kind == _KINDS.index("mean"), images.mean(dim=(2, 3), keepdim=True), content)
        noisy = (parameters["fill"] == _KINDS.index("noise")).nonzero()[:, 0].to(images.device)
        if len(noisy):
            noise = uniform(parameters["noise"].to(images.device)[noisy], images[0].numel())
            content = content.clone()
            content[noisy] = noise.view(-1, *images.shape[1:])
        return torch.where(mask, content, images)
