"""Pictures show the right pixels at the right place."""

import numpy as np
import pytest
import torch

from restoration.metrics.pictures import grid, nfe_curve


def test_grid_enlarges_by_repeating_and_keeps_the_order():
    columns = {"degraded": torch.zeros(2, 3, 32, 32), "clean": torch.full((2, 3, 32, 32), 0.5)}
    columns["clean"][1, 0] = 1.0
    picture = np.asarray(grid(columns, scale=5))
    assert picture.shape == (30 + 10 + 2 * 160 + 4, 2 * 10 + 2 * 160 + 4, 3)
    top, left = 30, 10
    assert (picture[top : top + 160, left : left + 160] == 0).all()
    assert (picture[top : top + 160, left + 164 : left + 324] == 128).all()
    assert (picture[top + 164 : top + 324, left + 164 : left + 324] == [255, 128, 128]).all()
    assert (picture[:30] < 128).any(), "the titles are missing"
    assert (picture[-10:] == 255).all()


def test_grid_picks_its_scale():
    assert grid({"a": torch.zeros(1, 3, 64, 64)}).width == 2 * 10 + 128
    assert grid({"a": torch.zeros(1, 3, 512, 512)}).width == 2 * 10 + 512


def test_grid_refuses_unequal_columns():
    with pytest.raises(ValueError, match="shapes"):
        grid({"a": torch.zeros(1, 3, 8, 8), "b": torch.zeros(2, 3, 8, 8)})


def test_nfe_curve_draws_each_figure(tmp_path):
    entry = {"solver": "Euler", "texture_ratio": 0.2, "texture_ratio_ci": [0.1, 0.3], "frechet_maps": 5.0}
    by_nfe = []
    for nfe, value in ((1, 24.0), (8, 21.0)):
        figures = {"psnr": value, "psnr_ci": [value - 1, value + 1], "psnr_hole": value - 5}
        figures |= {"psnr_hole_ci": [value - 6, value - 4], "psnr_known": None, "psnr_known_ci": [None, None]}
        by_nfe.append({"nfe": nfe, **entry, **figures})
    figure = nfe_curve({"n": 1000, "identity": {"psnr": 15.0}, "by_nfe": by_nfe})
    quality, texture, frechet = figure.axes
    whole = next(line for line in quality.lines if line.get_label() == "whole image")
    assert list(whole.get_xdata()) == [1, 8] and list(whole.get_ydata()) == [24.0, 21.0]
    assert list(frechet.lines[0].get_ydata()) == [5.0, 5.0] and list(texture.lines[0].get_ydata()) == [0.2, 0.2]
    figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
