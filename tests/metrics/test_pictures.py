"""The picture grid shows the right pixels at the right place."""

import numpy as np
import pytest
import torch

from restoration.metrics.pictures import picture_grid


def test_grid_enlarges_by_repeating_and_keeps_the_order():
    columns = {"degraded": torch.zeros(2, 3, 32, 32), "clean": torch.full((2, 3, 32, 32), 0.5)}
    columns["clean"][1, 0] = 1.0
    picture = np.asarray(picture_grid(columns))
    assert picture.shape == (30 + 2 * 164 + 4, 2 * 164 + 4, 3)
    top, left = 34, 4
    assert (picture[top : top + 160, left : left + 160] == 0).all()
    assert (picture[top : top + 160, left + 164 : left + 324] == 128).all()
    assert (picture[top + 164 : top + 324, left + 164 : left + 324] == [255, 128, 128]).all()
    for half in (picture[:30, :164], picture[:30, 164:]):
        assert (half < 128).any(), "a title is missing"
    assert (picture[30:34] == 255).all() and (picture[-4:] == 255).all()


def test_grid_picks_its_scale():
    assert picture_grid({"a": torch.zeros(2, 3, 64, 64)}).width == 128 + 2 * 4
    assert picture_grid({"a": torch.zeros(2, 3, 512, 512)}).width == 512 + 2 * 4


def test_one_image_has_its_title_too():
    picture = np.asarray(picture_grid({"a": torch.zeros(1, 3, 64, 64)}))
    assert (picture[30:] == 0).all() and (picture[:30] < 128).any()


def test_grid_refuses_unequal_columns():
    with pytest.raises(RuntimeError, match="equal size"):
        picture_grid({"a": torch.zeros(1, 3, 8, 8), "b": torch.zeros(2, 3, 8, 8)})
