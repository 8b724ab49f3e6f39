"""JPEG compression."""

import io
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restoration.corruption.base import Operator, Parameters
from restoration.errors import Range

Quality = Annotated[int, Range(1, 100)]


class Jpeg(Operator):
    """Encoded as JPEG and decoded again, by Pillow on the CPU. At severity 0 the image stays as it is.

    Args:
        best: quality just above severity 0.
        worst: quality at severity 1.
    """

    def __init__(self, best: Quality = 95, worst: Quality = 10) -> None:
        self.best = best
        self.worst = worst

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        quality = (self.best + (self.worst - self.best) * severity).round().long()
        return {"quality": torch.where(severity > 0, quality, 0)}  # 0: not compressed

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        degraded = images.clone()
        pixels = (images * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
        for row, quality in enumerate(parameters["quality"].tolist()):
            if quality:
                file = io.BytesIO()
                Image.fromarray(pixels[row]).save(file, "JPEG", quality=quality)
                decoded = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
                degraded[row] = decoded.to(images.device).float() / 255
        return degraded, torch.zeros_like(images[:, :1], dtype=torch.bool)
