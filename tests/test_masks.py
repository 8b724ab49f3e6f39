"""Masks of images to restore: files, transparency, and what is said about holes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import complaint, run_command
from PIL import Image
from torch import Tensor
from untouched import Untouched, pixels

from restoration.errors import UserError
from restoration.estimator import Estimate
from restoration.flow import ConditionalField
from restoration.flow.tiling import Tiles
from restoration.picture import hole_hint, plan, read, read_mask, transparent
from restoration.picture.mask import flat_share
from restoration.restore import Settings, main, restore_pictures
from restoration.restorer import Restorer


class Painted(Untouched):
    """Paints every pixel grey, and takes for a hole what the mask says, or what is black."""

    def field(
        self, degraded: Tensor, mask: Tensor | None = None, start: tuple[Tensor, Tensor] | None = None
    ) -> ConditionalField:
        made = super().field(degraded, mask, start)
        unit = degraded.float() / 255 if degraded.dtype == torch.uint8 else degraded
        hole = (unit == 0).all(1, keepdim=True).float() if mask is None else mask.float()
        return replace(made, mean=made.mean * 0, estimate=Estimate(made.mean, made.residual_std, hole))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(pixels(24, 40, 3).clip(1, 255)).save(folder / "a.jpg")
    return folder / "a.jpg"


def mask_file(path: Path, size: tuple[int, int] = (24, 40), value: int = 255) -> Path:
    mask = np.zeros(size, np.uint8)
    mask[4:10, 6:20] = value
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(mask).save(path)
    return path


def test_white_is_the_hole(tmp_path: Path, photo: Path):
    mask = mask_file(tmp_path / "m.png")
    hole = read_mask(mask, read(photo))
    assert hole.shape == (1, 24, 40) and hole.dtype == torch.bool
    assert hole[0, 4:10, 6:20].all() and hole.sum() == 6 * 14
    assert torch.equal(read_mask(mask, read(photo), invert=True), ~hole)
    array = np.asarray(Image.open(mask))
    for same in (array, array > 0, Image.open(mask)):
        assert torch.equal(read_mask(same, read(photo)), hole)


@pytest.mark.parametrize("tiles", [False, True])
def test_known_pixels_are_kept_exactly(tmp_path: Path, photo: Path, tiles: bool):
    mask = mask_file(tmp_path / "m.png")
    (task,) = plan(photo, tmp_path / "out", masks=mask)
    how = Settings(keep_known=True, tiles=Tiles(16, 4) if tiles else Tiles())
    assert restore_pictures(Painted(), [task], how) == {}
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (photo, task.target))
    hole = np.asarray(Image.open(mask)) > 0
    assert np.array_equal(before[~hole], after[~hole])
    assert (np.abs(after[hole].astype(int) - 128) <= 1).all()


def test_sixteen_bits_are_kept_exactly(tmp_path: Path):
    Image.fromarray(pixels(24, 40, dtype=np.uint16)).save(tmp_path / "deep.png")
    mask = mask_file(tmp_path / "m.png")
    (task,) = plan(tmp_path / "deep.png", tmp_path / "out", masks=mask)
    assert restore_pictures(Painted(), [task], Settings(keep_known=True)) == {}
    before, after = (np.asarray(Image.open(path)) for path in (tmp_path / "deep.png", task.target))
    hole = np.asarray(Image.open(mask)) > 0
    assert after.dtype == np.uint16 and np.array_equal(before[~hole], after[~hole])


def test_each_image_has_the_mask_of_its_name(tmp_path: Path, photo: Path):
    for name in ("b/c.png", "d.webp"):
        (photo.parent / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels(24, 40, 3)).save(photo.parent / name)
    masks = tmp_path / "masks"
    for name in ("a.png", "b/c.bmp", "d.png"):
        mask_file(masks / name)
    tasks = plan(photo.parent, tmp_path / "out", masks=masks)
    assert {task.name: task.mask for task in tasks} == {
        "a.jpg": masks / "a.png", "b/c.png": masks / "b/c.bmp", "d.webp": masks / "d.png"
    }  # fmt: skip
    for suffix in ("png", "tif"):
        mask_file(masks / f"d.{suffix}")
    with pytest.raises(UserError, match=r"2 masks in .* for d.webp"):
        plan(photo.parent, tmp_path / "out", masks=masks)
    with pytest.raises(UserError, match="no mask at"):
        plan(photo.parent, tmp_path / "out", masks=tmp_path / "none.png")


def test_images_without_a_mask_in_the_folder_are_restored_blind(tmp_path: Path, photo: Path, capsys):
    """The two of one size are restored apart, and it is said which one is blind."""
    Image.fromarray(pixels(24, 40, 3, seed=1).clip(1, 255)).save(photo.parent / "b.png")
    hole = np.asarray(Image.open(mask_file(tmp_path / "masks" / "b.png"))) > 0
    tasks = plan(photo.parent, tmp_path / "out", masks=tmp_path / "masks")
    assert f"no mask in {tmp_path / 'masks'} for a.jpg: the network looks" in capsys.readouterr().err
    assert restore_pictures(Painted(), tasks) == {}
    assert capsys.readouterr().out == "a.jpg: 0.0% taken for a hole\nb.png: 8.7% marked as a hole\n"
    assert hole.mean() == pytest.approx(0.0875)
    with pytest.raises(
        UserError, match=r"for a.jpg; keep_known=true needs one for each image; give a file of its name"
    ):
        plan(photo.parent, tmp_path / "out", overwrite=True, masks=tmp_path / "masks", every_mask=True)
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "c.png")
    with pytest.raises(UserError, match=r"no mask in .* for a.jpg, b.png; give a file of its name, with any suffix"):
        plan(photo.parent, tmp_path / "out", overwrite=True, masks=tmp_path / "masks")


@pytest.mark.parametrize(
    "size, value, said",
    [
        ((24, 24), 255, "mask m.png has 24 x 24 pixels, the image 40 x 24; give one of its size"),
        ((24, 40), 0, "mask m.png marks no pixel; mask_invert=true if black marks the hole"),
        ((24, 40), -1, "mask m.png marks every pixel; mask_invert=true if black marks the hole"),
    ],
    ids=["another size", "empty", "full"],
)
def test_a_mask_that_cannot_be_right_is_one_line(tmp_path: Path, photo: Path, size, value: int, said: str):
    mask = mask_file(tmp_path / "m.png", size, max(value, 0))
    if value < 0:
        Image.new("L", (40, 24), 255).save(mask)
    tasks = plan(photo, tmp_path / "out", masks=mask)
    assert restore_pictures(Painted(), tasks) == {"a.jpg": said}


def test_transparent_pixels_are_the_mask_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    image = pixels(24, 40, 4)
    image[..., 3] = 255
    image[4:10, 6:20, 3] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    hole = transparent(read(tmp_path / "a.png"))
    assert hole[0, 4:10, 6:20].all() and hole.sum() == 6 * 14
    (task,) = plan(tmp_path / "a.png", tmp_path / "out")
    assert restore_pictures(Painted(), [task], Settings(alpha=True)) == {}
    assert Image.open(task.target).mode == "RGB"  # nothing is missing any more
    assert capsys.readouterr().out == "a.png: 8.7% marked as a hole\n"
    Image.fromarray(image[..., :3]).save(tmp_path / "a.png")
    failed = restore_pictures(Painted(), [task], Settings(alpha=True))
    assert failed == {"a.png": "mask=alpha: the image has no transparency"}


def test_what_was_taken_for_a_hole_is_said(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]):
    image = pixels(24, 40, 3).clip(1, 255)
    image[:12, :20] = 0
    Image.fromarray(image).save(photo.parent / "black.png")
    image[:12, :20] = 255
    Image.fromarray(image).save(photo.parent / "white.png")
    assert restore_pictures(Painted(), plan(photo.parent, tmp_path / "out")) == {}
    said = capsys.readouterr()
    lines = [f"{name}: {share} taken for a hole" for name, share in (("a.jpg", "0.0%"), ("black.png", "25.0%"))]
    assert said.out.splitlines() == [*lines, "white.png: 0.0% taken for a hole"]
    # The last row and column of the area have no equal neighbour.
    assert said.err == (
        "white.png: no hole was found, but 22% of it is one flat colour; if that is a hole, mark it with mask=\n"
    )


def test_hints_need_a_reason(tmp_path: Path, photo: Path):
    assert hole_hint(read(photo), 0.0) is None
    image = np.dstack([pixels(24, 40, 3), np.where(np.arange(40) < 10, 0, 255).astype(np.uint8)[None].repeat(24, 0)])
    Image.fromarray(image).save(tmp_path / "t.png")
    hint = hole_hint(read(tmp_path / "t.png"), 0.0)
    assert hint == "25% of it is transparent; mask=alpha restores that"
    assert hole_hint(read(tmp_path / "t.png"), 0.3) is None
    assert flat_share(torch.zeros(3, 10, 10)) == pytest.approx(0.81)


def test_the_python_interface_takes_a_mask(photo: Path):
    image, mask = np.asarray(Image.open(photo)), np.zeros((24, 40), bool)
    mask[4:10, 6:20] = True
    restored = Painted().restore_image(image, mask=mask, keep_known=True)
    assert np.array_equal(restored[~mask], image[~mask]) and not np.array_equal(restored, image)
    with pytest.raises(UserError, match="marks no pixel"):
        Painted().restore_image(image, mask=mask & False)
    with pytest.raises(ValueError, match="keep_known needs a mask"):
        Painted().restore_image(image, keep_known=True)


@pytest.mark.parametrize("argument", ["keep_known=true", "mask_invert=true"])
def test_the_command_needs_a_mask_for_them(argument: str, photo: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, "checkpoint=none.ckpt", f"input={photo}", "output=out", argument) == 2
    assert complaint(capsys) == ("keep_known and mask_invert need a mask; give mask=FILE, mask=FOLDER or mask=alpha")


def test_the_command_restores_with_a_mask(photo: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(Restorer, "load", lambda *_: Painted())
    mask = mask_file(tmp_path / "m.png", value=0)
    Image.fromarray(255 - np.asarray(Image.open(mask_file(tmp_path / "m.png")))).save(mask)
    arguments = [f"input={photo}", f"output={tmp_path / 'out'}", f"mask={mask}", "mask_invert=true", "keep_known=true"]
    assert run_command(main, "checkpoint=some.ckpt", *arguments) == 0
    assert "a.jpg: 8.7% marked as a hole\nrestored 1 of 1 images" in capsys.readouterr().out
