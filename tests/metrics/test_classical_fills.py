"""Fillings against what they must be by definition."""

import pytest
import torch

from restoration.metrics.classical import biharmonic_fill, diffusion_fill, mean_fill

FILLS = [mean_fill, diffusion_fill, biharmonic_fill]


def damaged() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 16, 20, generator=generator)
    mask = torch.zeros(3, 1, 16, 20, dtype=torch.bool)
    mask[0, :, 3:9, 5:14] = True
    mask[1, :, 0:5, 10:20] = True  # touches the border of the image
    return images * ~mask, mask


def test_mean_fill_is_the_mean_of_the_known():
    degraded, mask = damaged()
    filled = mean_fill(degraded, mask)
    known = degraded[0, 1][~mask[0, 0]]
    torch.testing.assert_close(filled[0, 1][mask[0, 0]], known.mean().expand(int(mask[0].sum())))


@pytest.mark.parametrize("fill", FILLS)
def test_only_the_hole_changes(fill):
    degraded, mask = damaged()
    filled = fill(degraded, mask)
    assert torch.equal(filled * ~mask, degraded * ~mask)
    assert torch.equal(filled[2], degraded[2])
    assert 0.0 <= filled.min() and filled.max() <= 1.0
    assert filled[0][mask[0].expand(3, -1, -1)].min() > 0.0


@pytest.mark.parametrize("fill", FILLS)
def test_nothing_known_leaves_the_image(fill):
    degraded = torch.full((1, 3, 8, 8), 0.25)
    assert torch.equal(fill(degraded, torch.ones(1, 1, 8, 8, dtype=torch.bool)), degraded)


@pytest.mark.parametrize("fill", [diffusion_fill, biharmonic_fill])
def test_a_plane_is_continued_exactly(fill):
    """A linear ramp is harmonic and biharmonic."""
    row, column = torch.meshgrid(torch.linspace(0, 0.5, 16), torch.linspace(0, 0.4, 16), indexing="ij")
    clean = (row + column).expand(1, 3, 16, 16).contiguous()
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 5:11] = True
    torch.testing.assert_close(fill(clean * ~mask, mask), clean, atol=1e-5, rtol=0)


def test_diffusion_is_the_mean_of_its_neighbours():
    degraded, mask = damaged()
    filled = diffusion_fill(degraded, mask)[0]
    around = (filled[:, 2:, 1:-1] + filled[:, :-2, 1:-1] + filled[:, 1:-1, 2:] + filled[:, 1:-1, :-2]) / 4
    inside = mask[0, :, 1:-1, 1:-1].expand(3, -1, -1)
    torch.testing.assert_close(filled[:, 1:-1, 1:-1][inside], around[inside], atol=1e-5, rtol=0)
