"""The steps of the page in the browser, as plain functions."""

import dataclasses
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import torch
from PIL import Image

from restoration.app.steps import PAINT, corruptions, damage, load, load_mask, painted, restore, with_paint
from restoration.errors import UserError
from restoration.picture import decode
from restoration.restorer import Restorer

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
PICTURE = decode(Image.fromarray(PIXELS))
HEIGHT, WIDTH = PIXELS.shape[:2]


def tiny_restorer() -> Restorer:
    """With random weights."""
    torch.manual_seed(0)
    restorer = Restorer.build({**hostile.CLEAN}, "random").eval()
    with torch.no_grad():  # its head begins with zeros
        for parameter in restorer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return restorer


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return tiny_restorer()


def layer(rows: slice, columns: slice, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A layer of the editor with a painted rectangle."""
    values = np.zeros((size[1], size[0], 4), np.uint8)
    values[rows, columns] = (*PAINT, 255)
    return Image.fromarray(values)


def hole(rows: slice, columns: slice) -> torch.Tensor:
    marked = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    marked[:, rows, columns] = True
    return marked


BOX = slice(4, 12), slice(8, 20)


def said(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert message.isprintable() and len(message) < 200
    return message


def test_a_picture_is_read_as_a_viewer_shows_it(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=turned)
    assert load(tmp_path / "turned.png", 4).pixels.shape == (3, WIDTH, HEIGHT)
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    shown = with_paint(load(tmp_path / "deep.png", 4), None)
    assert shown.mode == "L" and np.array_equal(np.asarray(shown), PIXELS[..., 0])


@pytest.mark.parametrize(
    "content, limit, message",
    [
        (b"not an image", 4, "This picture cannot be used: not an image, or damaged."),
        (b"", 4, "This picture cannot be used: empty."),
        (b"\0\0\0\x18ftypheic", 4, "HEIC: convert it to PNG or JPEG first"),
        (PIXELS, 0.0005, "32 x 24 pixels are 0.000768 megapixels, above max_megapixels=0.0005"),
        (PIXELS[:8], 4, "This picture is too small: 32 x 8 pixels."),
        (None, 4, "No such file"),
    ],
)
def test_a_bad_file_is_one_line(content: Any, limit: float, message: str, tmp_path: Path):
    path = tmp_path / "a.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        Image.fromarray(content).save(path)
    with pytest.raises(UserError) as error:
        load(path, limit)
    assert message in said(error)


def test_a_mask_file_marks_the_hole(tmp_path: Path):
    path = tmp_path / "mask.png"
    Image.fromarray(hole(*BOX)[0].numpy()).save(path)
    assert torch.equal(load_mask(path, PICTURE, 4), hole(*BOX))
    wrong = {"of another size": (20, 20), "empty": (WIDTH, HEIGHT)}
    for name, message in (("of another size", "has 20 x 20 pixels, the image 32 x 24"), ("empty", "marks no pixel")):
        Image.new("L", wrong[name]).save(path)
        with pytest.raises(UserError) as error:
            load_mask(path, PICTURE, 4)
        assert message in said(error) and "mask_invert" not in said(error)


def test_painted_layers_are_the_hole():
    assert painted([], PICTURE) is None
    assert painted([layer(slice(0), slice(0))], PICTURE) is None
    assert torch.equal(painted([layer(*BOX)], PICTURE), hole(*BOX))
    other = slice(18, 24), slice(0, 4)
    assert torch.equal(painted([layer(*BOX), layer(*other)], PICTURE), hole(*BOX) | hole(*other))
    known = hole(*other)
    assert torch.equal(painted([layer(*BOX)], PICTURE, known), hole(*BOX) | hole(*other))
    assert torch.equal(known, hole(*other))  # it is kept by the page
    # A large picture's layer may be smaller.
    half = painted([layer(slice(2, 6), slice(4, 10), (WIDTH // 2, HEIGHT // 2))], PICTURE)
    assert (half != hole(*BOX)).sum() <= 40
    with pytest.raises(UserError, match="whole picture is painted over"):
        painted([layer(slice(None), slice(None))], PICTURE)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_known_hole_is_shown_as_paint(mode: str):
    image = Image.fromarray(PIXELS).convert(mode)
    shown = np.asarray(with_paint(decode(image), hole(*BOX)))
    inside = hole(*BOX)[0].numpy()
    assert (shown[inside] == PAINT).all()
    assert np.array_equal(shown[~inside], np.asarray(image.convert("RGB"))[~inside])


def test_every_corruption_damages_as_its_strength_says():
    folder = Path(__file__).parents[1] / "conf" / "corruption"
    assert corruptions() == sorted(path.stem for path in folder.iterdir())
    for name in corruptions():
        same, none = damage(PICTURE, name, 0.0, 0)
        assert torch.equal(same.pixels, PICTURE.pixels) and not none.any(), name
        changes = [(damage(PICTURE, name, s, 1)[0].image - PICTURE.image).abs().mean() for s in (0.5, 1.0)]
        assert 0 < changes[0] < changes[1], name
        assert torch.equal(damage(PICTURE, name, 1.0, 1)[0].pixels, damage(PICTURE, name, 1.0, 1)[0].pixels), name
    erased, gone = damage(PICTURE, "erase", 1.0, 2)
    assert gone.any() and (erased.pixels[:, gone[0]] == 0).all()
    assert not torch.equal(gone, damage(PICTURE, "erase", 1.0, 3)[1])
    for name in ("none", "../evaluate"):
        with pytest.raises(UserError, match="There is no corruption"):
            damage(PICTURE, name, 1.0, 0)


def test_restoring_gives_samples_and_says_what_it_took(restorer: Restorer):
    images, text = restore(restorer, PICTURE, hole(*BOX), 4, 3, 5, False)
    values = [np.asarray(image) for image in images]
    assert len(values) == 3 and all(value.shape == PIXELS.shape for value in values)
    assert not np.array_equal(values[0], values[1]) and not np.array_equal(values[1], values[2])
    # The first is that of the Python interface.
    alone = restorer.restore_image(PIXELS, 4, seed=5, mask=hole(*BOX)[0].numpy())
    assert np.array_equal(values[0], alone)
    assert text.startswith("0.00 megapixels, 3 samples: ") and " s on cpu (" in text and " s per megapixel). " in text
    assert text.endswith("12.5% of the picture was marked as a hole.")
    _, blind = restore(restorer, PICTURE, None, 2, 1, 0, False)
    assert blind.startswith("0.00 megapixels: ") and blind.endswith("of the picture was taken for a hole.")


def test_only_the_hole_changes(restorer: Restorer):
    (image,), _ = restore(restorer, PICTURE, hole(*BOX), 1, 1, 0, True)
    same = (np.asarray(image) == PIXELS).all(axis=2)
    inside = hole(*BOX)[0].numpy()
    assert same[~inside].all() and not same[inside].all()
    with pytest.raises(UserError, match="No hole is painted"):
        restore(restorer, PICTURE, None, 1, 1, 0, True)


def test_transparency_stays(restorer: Restorer):
    alpha = np.full((HEIGHT, WIDTH), 7, np.uint8)
    (image,), _ = restore(restorer, dataclasses.replace(PICTURE, alpha=alpha), None, 1, 1, 0, False)
    assert image.mode == "RGBA" and (np.asarray(image)[..., 3] == 7).all()


def test_out_of_memory_is_one_line(restorer: Restorer, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(restorer, "restore", full)
    with pytest.raises(UserError, match="not enough memory"):
        restore(restorer, PICTURE, None, 1, 1, 0, False)

    def bug(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(restorer, "restore", bug)
    with pytest.raises(RuntimeError, match="shapes differ"):
        restore(restorer, PICTURE, None, 1, 1, 0, False)
