"""Tile borders in a restored image, with the weights in the package: none are seen, and hard ones would be."""

import pytest
import torch
from torch import Tensor

from restoration.flow.tiling import Tiles, windows
from restoration.keyed import fold, normal
from restoration.restorer import Restorer

SIDE, TILE = 256, 64
# The rows of a border and the other rows differ in content. That cancels in the comparison with the untiled result,
# whose noise is the same: what is left of blended tiles was 0.91 and 0.98, of hard ones 2.1 and 1.2.
TOLERANCE = 0.15


def scene() -> Tensor:
    """(1, 3, H, W): smooth on the left, with a texture of fine grain on the right."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    smooth = torch.stack(
        [0.5 + 0.3 * torch.sin(x / 61), 0.45 + 0.25 * torch.cos(y / 73), 0.5 + 0.2 * torch.sin((x + y) / 89)]
    )
    texture = 0.06 * normal(fold("texture")[None], (3, SIDE, SIDE))[0]
    return (smooth + texture * (x >= SIDE // 2)).clamp(1 / 255, 254 / 255)[None]


def across_borders(images: Tensor, overlap: int, stride: int) -> Tensor:
    """Gradient energy (2,) across the horizontal borders of tiles, over that across other rows: smooth, textured."""
    places, _ = windows(SIDE, SIDE, TILE, overlap, stride)
    border = torch.zeros(SIDE - 1, dtype=torch.bool)
    border[[row - 1 for rows, _ in places for row in (rows.start, rows.stop) if 0 < row < SIDE]] = True
    energy = images[0].diff(dim=-2).square().mean(dim=0)
    halves = torch.stack([half.mean(dim=1) for half in energy.split(SIDE // 2, dim=1)])
    return halves[:, border].mean(dim=1) / halves[:, ~border].mean(dim=1)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load()


@pytest.mark.parametrize("overlap, seams", [(TILE // 2, False), (0, True)], ids=["blended", "hard"])
def test_there_are_no_seams_at_tile_borders(restorer: Restorer, overlap: int, seams: bool):
    """One evaluation. Of tiles without an overlap they are found: the measure sees what it should."""
    degraded, keys = scene(), torch.arange(1)
    ratio = across_borders(
        restorer.restore(degraded, keys, 1, tiles=Tiles(TILE, overlap)).images, overlap, restorer.stride
    )
    ratio /= across_borders(restorer.restore(degraded, keys, 1).images, overlap, restorer.stride)
    assert (ratio.max() > 1 + TOLERANCE) == seams, ratio
