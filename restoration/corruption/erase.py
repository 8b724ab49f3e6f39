"""Erased regions: one rectangle, cells of a coarse grid, or strokes."""

import math
from typing import Annotated

import torch
from torch import Tensor

from restoration.corruption.base import Operator, Parameters
from restoration.corruption.fill import Fill, FillKind
from restoration.errors import NotNegative, Positive, Range, Share
from restoration.keyed import fold, uniform


class Erase(Operator):
    """One erased rectangle.

    Args:
        area: the rectangle's share of the image at severity 1.
        aspect: bounds of height / width, which is drawn log-uniformly.
        fill: the content of the erased pixels (`Fill`).
    """

    makes_hole = True

    def __init__(
        self, area: Share = 0.3, aspect: tuple[Positive, Positive] = (0.3, 3.3), fill: FillKind = "black"
    ) -> None:
        self.area = area
        self.aspect = aspect
        self.fill = Fill(fill)

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
        return {name: value.long() for name, value in rectangle.items()} | self.fill.sample(keys)

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        top, left, height, width = (
            parameters[name].to(images.device)[:, None] for name in ("top", "left", "height", "width")
        )
        y = torch.arange(images.shape[-2], device=images.device)
        x = torch.arange(images.shape[-1], device=images.device)
        inside_y = (y >= top) & (y < top + height)
        inside_x = (x >= left) & (x < left + width)
        mask = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]
        return self.fill(images, mask, parameters), mask


class BlockMask(Operator):
    """Erased cells of a grid over the image.

    Args:
        cells: cells per side of the grid.
        share: the share of the cells erased at severity 1.
        fill: the content of the erased pixels (`Fill`).
    """

    makes_hole = True

    def __init__(
        self, cells: Annotated[int, Range(1, 1024)] = 8, share: Share = 0.75, fill: FillKind = "black"
    ) -> None:
        self.cells = cells
        self.share = share
        self.fill = Fill(fill)

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        draws = uniform(fold(keys, "block_mask"), self.cells**2)
        erased = (severity * self.share * self.cells**2).round()
        rank = draws.argsort(dim=1).argsort(dim=1)
        return {"erased": (rank < erased[:, None]).view(-1, self.cells, self.cells)} | self.fill.sample(keys)

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        row = torch.arange(height, device=images.device) * self.cells // height
        column = torch.arange(width, device=images.device) * self.cells // width
        mask = parameters["erased"].to(images.device)[:, row][:, :, column][:, None]
        return self.fill(images, mask, parameters), mask


class Strokes(Operator):
    """Erased strokes, as of scratches and scribbles: bent lines of a drawn width.

    Each stroke is a chain of straight segments with random turns. At severity u an image has ⌈u·strokes⌉ of them, of
    widths drawn uniformly between a fifth and the whole of u·width.

    Args:
        strokes: number at severity 1.
        width: pixels of a 64-pixel image, the largest at severity 1.
        fill: the content of the erased pixels (`Fill`).
        segments: of a stroke.
        length: of a segment, as a share of the shorter side.
    """

    makes_hole = True

    def __init__(
        self,
        strokes: Annotated[int, Range(1, 64)] = 4,
        width: NotNegative = 5.0,
        fill: FillKind = "black",
        segments: Annotated[int, Range(1, 64)] = 4,
        length: Positive = 0.25,
    ) -> None:
        self.strokes = strokes
        self.width = width
        self.fill = Fill(fill)
        self.segments = segments
        self.length = length

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        strokes, segments, side = self.strokes, self.segments, min(size)
        draws = uniform(fold(keys, "strokes"), strokes * (3 + segments)).view(-1, strokes, 3 + segments)
        start = draws[..., :2] * torch.tensor([size[1], size[0]])
        # The first draw is a direction, the others are turns of at most 60 degrees.
        turns = (draws[..., 3:] - 0.5) * (2 * math.pi / 3)
        turns[..., 0] *= 3
        angle = turns.cumsum(-1)
        steps = self.length * side * torch.stack([angle.cos(), angle.sin()], dim=-1)
        points = torch.cat([start[..., None, :], start[..., None, :] + steps.cumsum(-2)], dim=-2)
        width = severity[:, None] * (self.width * side / 64) * (0.2 + 0.8 * draws[..., 2])
        drawn = torch.arange(strokes) < (severity[:, None] * strokes).ceil()
        # x and y of the points (B, strokes, segments + 1, 2), and widths (B, strokes), in pixels
        return {"points": points, "width": torch.where(drawn, width, 0.0)} | self.fill.sample(keys)

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        points, half = parameters["points"].to(images.device), parameters["width"].to(images.device) / 2
        y = torch.arange(height, device=images.device)[:, None] + 0.5
        x = torch.arange(width, device=images.device) + 0.5
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for stroke in range(points.shape[1]):
            for segment in range(points.shape[2] - 1):
                begin, end = (points[:, stroke, segment + step, :, None, None] for step in (0, 1))
                along = end - begin
                offset_x, offset_y = x - begin[:, 0], y - begin[:, 1]
                # The nearest point of the segment, as a share of its length.
                share = offset_x * along[:, 0] + offset_y * along[:, 1]
                share = (share / along.square().sum(1).clamp(min=1e-6)).clamp(0, 1)
                distance = (offset_x - share * along[:, 0]).square() + (offset_y - share * along[:, 1]).square()
                mask |= (distance < half[:, stroke, None, None].square())[:, None]
        return self.fill(images, mask, parameters), mask
