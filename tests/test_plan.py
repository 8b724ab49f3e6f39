"""Which images are restored, and where the results go."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from untouched import Noisy, Untouched, pixels

from restoration.errors import UserError
from restoration.picture import read, write
from restoration.restore import plan, restore_pictures


def test_plan_refuses(tmp_path: Path):
    source = tmp_path / "photos"
    source.mkdir()
    with pytest.raises(UserError, match="no images in"):
        plan(source, tmp_path / "restored")
    Image.fromarray(pixels(8, 8, 3)).save(source / "a.png")
    with pytest.raises(UserError, match="no input at"):
        plan(tmp_path / "pictures", tmp_path / "restored")
    for inside in (source, source / "restored"):
        with pytest.raises(UserError, match="inside the input"):
            plan(source, inside)
    with pytest.raises(UserError, match=r"output new.jpg: results are written as PNG; give new.png, or a folder"):
        plan(source / "a.png", Path("new.jpg"))
    with pytest.raises(UserError, match="would replace the input"):
        plan(source / "a.png", source, overwrite=True)
    (task,) = plan(source, tmp_path / "restored")
    write(task.target, read(task.source))
    with pytest.raises(UserError, match="already there: .*a.png; add overwrite=true"):
        plan(source, tmp_path / "restored")
    assert plan(source, tmp_path / "restored", overwrite=True) == [task]
    (single,) = plan(source / "a.png", tmp_path / "other.png")
    assert single.target == tmp_path / "other.png"


@pytest.mark.parametrize(
    "names, results",
    [
        (["s.png", "s.jpg", "s.png.png"], ["s.jpg.png", "s.png.png", "s.png.png.png"]),
        (["s.jpg", "s.png/t.png"], ["s.jpg.png", "s.png/t.png"]),
        (["a.b.png", "a.png"], ["a.b.png", "a.png"]),
        (["a", "a.png", "a.png.png"], ["a.png", "a.png.png", "a.png.png.png"]),
    ],
)
def test_every_image_has_a_result_of_its_own(tmp_path: Path, names: list[str], results: list[str]):
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(8, 8, 3, seed=len(name))).save(tmp_path / "in" / name, "PNG")
    tasks = plan(tmp_path / "in", tmp_path / "out")
    assert restore_pictures(Untouched(), tasks) == {}
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert [path for path in written if (tmp_path / "out" / path).is_file()] == results
    for task in tasks:
        np.testing.assert_array_equal(np.asarray(Image.open(task.target)), pixels(8, 8, 3, seed=len(task.name)))


def test_an_input_is_never_replaced(tmp_path: Path):
    """Also by way of links, and of an output folder around the input."""
    inner = tmp_path / "photos" / "photos"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        Image.fromarray(pixels(8, 8, 3)).save(folder / "a.png")
    (inner / "photos").mkdir()
    Image.fromarray(pixels(8, 8, 3)).save(inner / "photos" / "a.png")
    with pytest.raises(UserError, match="would replace the input"):
        plan(inner, inner.parent, overwrite=True)
    os.symlink(inner.parent / "a.png", tmp_path / "link.png")
    with pytest.raises(UserError, match="would replace the input"):
        plan(inner.parent / "a.png", tmp_path / "link.png", overwrite=True)
    # A result replaces a link, not the file behind it.
    os.symlink(inner / "a.png", tmp_path / "b.png")
    assert restore_pictures(Noisy(), plan(inner.parent / "a.png", tmp_path / "b.png", overwrite=True)) == {}
    assert not (tmp_path / "b.png").is_symlink()
    np.testing.assert_array_equal(np.asarray(Image.open(inner / "a.png")), pixels(8, 8, 3))
