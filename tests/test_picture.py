"""Images in and out in the same form: modes, bit depth, alpha, EXIF; from files and through `restore_image`."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from helpers import Plain
from image_kinds import PILLOW_13
from PIL import Image

from restoration.errors import UserError
from restoration.flow import Degraded
from restoration.flow.tiling import Tiles
from restoration.keyed import fold
from restoration.picture import Picture, decode, encode, read, write
from restoration.restorer import Restorer
from restoration.sampler import Euler


def pixels(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def through(folder: Path, source: Path) -> Image.Image:
    """The image that comes back for one file, decoded and written unchanged."""
    target = folder / "results" / f"{source.stem}.png"
    write(target, read(source))
    return Image.open(target)


@pytest.mark.parametrize(
    "mode, shape", [("L", (13, 21)), ("RGB", (13, 21, 3)), ("LA", (13, 21, 2)), ("RGBA", (13, 21, 4))]
)
def test_a_png_comes_back_in_the_same_mode(tmp_path: Path, mode: str, shape: tuple[int, ...]):
    Image.fromarray(pixels(*shape)).save(tmp_path / "a.png")
    result = through(tmp_path, tmp_path / "a.png")
    assert result.mode == mode
    np.testing.assert_array_equal(np.asarray(result), pixels(*shape))


@pytest.mark.parametrize("name", ["a.png", "b.tif"])
def test_sixteen_bit_grey_keeps_every_level(tmp_path: Path, name: str):
    levels = pixels(16, 24, dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    result = through(tmp_path, tmp_path / name)
    assert result.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(result), levels)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", *(["YCbCr"] if PILLOW_13 else [])])
def test_other_modes_are_converted(tmp_path: Path, mode: str):
    path = tmp_path / "a.tif"
    Image.fromarray(pixels(8, 8, 3)).convert(mode).save(path)
    expected = Image.open(path).convert("L" if mode == "1" else "RGB")
    result = through(tmp_path, path)
    assert result.mode == expected.mode
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_a_transparent_palette_keeps_its_alpha(tmp_path: Path):
    image = Image.fromarray(pixels(8, 8, 3)).quantize(4)
    image.save(tmp_path / "a.png", transparency=0)
    expected = Image.open(tmp_path / "a.png").convert("RGBA")
    assert 0 < (np.asarray(expected)[..., 3] == 0).mean() < 1
    np.testing.assert_array_equal(np.asarray(through(tmp_path, tmp_path / "a.png")), np.asarray(expected))


def test_exif_orientation_is_applied_once(tmp_path: Path):
    image = Image.fromarray(pixels(8, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    result = through(tmp_path, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(result), np.rot90(pixels(8, 16, 3), -1))
    assert 0x0112 not in result.getexif()


def test_values_are_in_zero_to_one_and_grey_repeats_its_channel():
    grey, deep = decode(Image.fromarray(pixels(5, 7))), decode(Image.fromarray(pixels(5, 7, dtype=np.uint16)))
    assert torch.equal(grey.image, torch.from_numpy(pixels(5, 7)).float().expand(3, -1, -1) / 255)
    expected = torch.from_numpy(pixels(5, 7, dtype=np.uint16).astype(np.float32)).expand(3, -1, -1) / 65535
    assert deep.deep and torch.equal(deep.image, expected)
    floats = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert torch.equal(decode(Image.fromarray(floats)).image[0], torch.from_numpy(floats))


@pytest.mark.parametrize("high", [1.5, -0.1, float("nan")])
def test_floats_without_a_known_range_are_refused(high: float):
    with pytest.raises(ValueError, match="its values are outside"):
        decode(Image.fromarray(np.full((4, 4), high, dtype=np.float32)))


def test_encoding_rounds_and_clamps():
    image = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0]).expand(3, 1, -1)
    assert np.asarray(encode(Picture(image)))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    deep = encode(Picture(image, grey=True, deep=True))
    assert deep.mode == "I;16" and np.asarray(deep)[0].tolist() == [0, 0, 103, 154, 65535, 65535]


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "new" / "a.png", Picture(torch.zeros(3, 4, 4)))
    assert os.listdir(tmp_path / "new") == ["a.png"]

    class Failing:
        def save(self, file: BinaryIO, **_: object) -> None:
            file.write(b"half")
            raise OSError("disk full")

    monkeypatch.setattr("restoration.picture.codec.encode", lambda picture: Failing())
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "new" / "a.png", Picture(torch.ones(3, 4, 4)))
    assert os.listdir(tmp_path / "new") == ["a.png"]
    assert not np.asarray(Image.open(tmp_path / "new" / "a.png")).any()


@pytest.fixture
def restorer() -> Restorer:
    return Restorer(Plain(), Degraded(0.1), Euler(nfe=2)).eval()


FORMS = {
    "L": pixels(13, 21),
    "RGB": pixels(13, 21, 3),
    "LA": pixels(13, 21, 2),
    "RGBA": pixels(13, 21, 4),
    "I;16": pixels(13, 21, dtype=np.uint16),
}


@pytest.mark.parametrize("source", ["file", "text", "pillow"])
@pytest.mark.parametrize("mode", FORMS)
def test_restore_image_equals_restore_on_the_decoded_tensor(restorer, tmp_path, source, mode):
    image, path = Image.fromarray(FORMS[mode]), tmp_path / "a.png"
    image.save(path)
    result = restorer.restore_image({"file": path, "text": str(path), "pillow": image}[source], nfe=3, seed=5)
    assert isinstance(result, Image.Image) and result.mode == mode and result.size == (21, 13)
    decoded = decode(image)
    restored = restorer.restore(decoded.image[None], fold(5, "sampling", 0)[None], 3).images[0]
    values, levels = np.asarray(result), 65535 if mode == "I;16" else 255
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(values[..., -1], FORMS[mode][..., -1])
        values = values[..., :-1]
    grey = mode in ("L", "LA", "I;16")
    expected = restored.mean(dim=0)[..., None] if grey else restored.permute(1, 2, 0)
    expected = (expected.double() * levels).round().numpy()
    np.testing.assert_array_equal(values.reshape(expected.shape), expected)
    assert (values.reshape(expected.shape) != FORMS[mode].reshape(13, 21, -1)[..., : expected.shape[-1]]).any()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_array_comes_back_as_an_array(restorer, mode):
    result = restorer.restore_image(FORMS[mode])
    assert isinstance(result, np.ndarray) and result.dtype == np.uint8 and result.shape == FORMS[mode].shape
    np.testing.assert_array_equal(result, np.asarray(restorer.restore_image(Image.fromarray(FORMS[mode]))))


def test_the_seed_and_the_nfe_decide_the_result(restorer):
    image = pixels(16, 16, 3)
    first = restorer.restore_image(image)
    np.testing.assert_array_equal(first, restorer.restore_image(image, nfe=2, seed=0))
    assert (restorer.restore_image(image, seed=1) != first).any()
    assert (restorer.restore_image(image, nfe=1) != first).any()
    with pytest.raises(UserError, match="nfe=0"):
        restorer.restore_image(image, nfe=0)


def test_a_large_image_is_restored_in_tiles(restorer):
    image = pixels(40, 300, 3)
    degraded = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    tiled = restorer.restore(degraded, fold(0, "sampling", 0)[None], tiles=Tiles()).images[0]
    expected = (tiled.permute(1, 2, 0).double() * 255).round().numpy()
    np.testing.assert_array_equal(restorer.restore_image(image), expected)
    whole = restorer.restore(degraded, fold(0, "sampling", 0)[None]).images[0]
    assert not torch.equal(tiled, whole), "a tile's border is padded, so it shows that there was one"


def test_a_larger_image_than_the_limit_is_refused(restorer, tmp_path):
    image = Image.fromarray(pixels(10, 20, 3))
    image.save(tmp_path / "a.png")
    for source in (image, tmp_path / "a.png", pixels(10, 20, 3)):
        with pytest.raises(
            UserError, match=r"20 x 10 pixels are 0.0002 megapixels, above max_megapixels=0.0001; raise"
        ):
            restorer.restore_image(source, max_megapixels=0.0001)
    assert restorer.restore_image(image, max_megapixels=0.0002).size == (20, 10)


@pytest.mark.parametrize("tiles", [None, Tiles(16, 4)])
def test_bytes_restore_as_the_floats_they_stand_for(restorer, tiles):
    image, keys = torch.from_numpy(pixels(13, 21, 3)).permute(2, 0, 1)[None], fold(0, "sampling", 0)[None]
    floats = restorer.restore(image.float() / 255, keys, tiles=tiles).images
    assert torch.equal(restorer.restore(image, keys, tiles=tiles).images, floats)


def test_a_missing_or_damaged_file_is_named(restorer, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    for name in ("missing.png", "damaged.png"):
        with pytest.raises(UserError, match=rf"cannot read the image .*{name}"):
            restorer.restore_image(tmp_path / name)
