"""Erased regions: one rectangle, or cells of a coarse grid."""

import math
from typing import Annotated

import torch
from torch import Tensor

from restoration.corruption.base import Operator, Parameters
from restoration.errors import Positive, Range, Share
from restoration.keyed import fold, uniform


class Erase(Operator):
    """One rectangle filled with 0.

    Args:
        area: the rectangle's share of the image at severity 1.
        aspect: bounds of height / width, which is drawn log-uniformly.
    """

    def __init__(self, area: Share = 0.3, aspect: tuple[Positive, Positive] = (0.3, 3.3)) -> None:
        self.area = area
        self.aspect = aspect

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        rows, columns = size
        draws = uniform(fold(keys, "erase"), 3)
        low, high = (math.log(bound) for bound in self.aspect)
        aspect = (low + (high - low) * draws[:, 0]).exp()
        area = self.area * severity * rows * columns
        height = (area * aspect).sqrt().round().clamp(max=rows)
        width = (area / aspect).sqrt().round().clamp(max=columns)
        top = (draws[:, 1] * (rows - height + 1)).floor()
        left = (draws[:, 2] * (columns - width + 1)).floor()
        rectangle = {"top": top, "left": left, "height": height, "width": width}
        return {name: value.long() for name, value in rectangle.items()}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        top, left, height, width = (
            parameters[name].to(images.device)[:, None] for name in ("top", "left", "height", "width")
        )
        y = torch.arange(images.shape[-2], device=images.device)
        x = torch.arange(images.shape[-1], device=images.device)
        inside_y = (y >= top) & (y < top + height)
        inside_x = (x >= left) & (x < left + width)
        mask = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        return images.masked_fill(mask, 0.0), mask


class BlockMask(Operator):
    """Cells of a grid over the image, filled with 0.

    Args:
        cells: cells per side of the grid.
        share: the share of the cells erased at severity 1.
    """

    def __init__(self, cells: Annotated[int, Range(1, 1024)] = 8, share: Share = 0.75) -> None:
        self.cells = cells
        self.share = share

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        draws = uniform(fold(keys, "block_mask"), self.cells**2)
        erased = (severity * self.share * self.cells**2).round()
        rank = draws.argsort(dim=1).argsort(dim=1)
        return {"erased": (rank < erased[:, None]).view(-1, self.cells, self.cells)}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        row = torch.arange(height, device=images.device) * self.cells // height
        column = torch.arange(width, device=images.device) * self.cells // width
        mask = parameters["erased"].to(images.device)[:, row][:, :, column][:, None]
        return images.masked_fill(mask, 0.0), mask
