"""The store: what it decodes, when it decodes again, and unreadable files."""

import json
import logging
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.data.decode import Source, parallel, read_image
from restoration.data.store import Store, decode_once
from restoration.errors import UserError


def write_images(folder: Path, count: int, size: int = 8, seed: int = 0) -> list[Source]:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    for number in range(count):
        Image.fromarray(pixels[number]).save(folder / f"{number}.png")
    return [Source(folder / f"{number}.png", f"{number}.png", 100 + number, number % 3) for number in range(count)]


def finished(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_pixels_order_and_indices_match_the_files(tmp_path):
    sources = write_images(tmp_path / "in", 20)
    stores = decode_once(tmp_path / "cache", {"train": sources[5:], "selection": [], "test": sources[:5]}, 8)
    assert {split: len(store) for split, store in stores.items()} == {"train": 15, "selection": 0, "test": 5}
    for split, expected in (("train", sources[5:]), ("test", sources[:5])):
        store = stores[split]
        assert store.index.tolist() == [source.index for source in expected] and store.index.dtype == np.int64
        assert store.label.tolist() == [source.label for source in expected]
        for row, source in enumerate(expected):
            assert np.array_equal(store.images[row], np.asarray(Image.open(source.path)))


@pytest.mark.parametrize("cores", [1, 3])
def test_any_number_of_processes_decodes_the_same(tmp_path, monkeypatch, cores):
    monkeypatch.setattr("restoration.data.decode.cores", lambda: cores)
    sources = write_images(tmp_path / "in", 50)
    store = decode_once(tmp_path / "cache", {"train": sources}, 8)["train"]
    assert np.array_equal(store.images, np.stack([np.asarray(Image.open(source.path)) for source in sources]))


def test_decoded_once_until_the_sources_change(tmp_path):
    cache = tmp_path / "cache"
    sources = write_images(tmp_path / "in", 6)
    decode_once(cache, {"train": sources}, 8)
    (first,) = finished(cache)
    built = (first / "images.npy").stat().st_mtime_ns
    decode_once(cache, {"train": sources}, 8)
    assert (first / "images.npy").stat().st_mtime_ns == built

    Image.new("RGB", (8, 8), (1, 2, 3)).save(sources[2].path)
    store = decode_once(cache, {"train": sources}, 8)["train"]
    assert store.images[2, 0, 0].tolist() == [1, 2, 3]
    (second,) = finished(cache)  # and the old one is gone
    assert second != first


def test_an_interrupted_or_damaged_build_is_repeated(tmp_path):
    cache = tmp_path / "cache"
    sources = write_images(tmp_path / "in", 6)
    (cache / ".building").mkdir(parents=True)
    (cache / ".building" / "images.npy").write_text("")
    decode_once(cache, {"train": sources}, 8)
    (folder,) = finished(cache)  # the remains of the killed build are gone
    with open(folder / "images.npy", "r+b") as file:
        file.truncate(200)
    store = decode_once(cache, {"train": sources}, 8)["train"]
    assert np.array_equal(store.images[5], np.asarray(Image.open(sources[5].path)))


def test_a_failed_build_leaves_no_files(tmp_path, monkeypatch):
    sources = write_images(tmp_path / "in", 6)
    monkeypatch.setattr("restoration.data.store.decode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        decode_once(tmp_path / "cache", {"train": sources}, 8)
    assert finished(tmp_path / "cache") == []


def _decode_at_the_barrier(cache, sources, barrier, results):
    barrier.wait()
    results.put(int(decode_once(cache, {"train": sources}, 8)["train"].images.astype(np.int64).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks to start at the same time")
def test_two_processes_may_build_at_once(tmp_path):
    sources = write_images(tmp_path / "in", 60)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (tmp_path / "cache", sources, barrier, results)
    processes = [context.Process(target=_decode_at_the_barrier, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert sums == {sum(int(np.asarray(Image.open(source.path), np.int64).sum()) for source in sources)}
    assert len(finished(tmp_path / "cache")) == 1


def test_a_few_unreadable_files_are_named_and_skipped(tmp_path, caplog):
    sources = write_images(tmp_path / "in", 10)
    many = [Source(sources[row % 9].path, f"{row}.png", row, 0) for row in range(2000)]
    broken = tmp_path / "in" / "broken.png"
    broken.write_bytes(sources[0].path.read_bytes()[:60])
    many[1200] = Source(broken, "broken.png", 1200, 0)
    many[7] = Source(tmp_path / "in" / "gone.png", "gone.png", 7, 0)
    for _ in range(2):  # when it is built, and when it is found
        with caplog.at_level(logging.WARNING):
            stores = decode_once(tmp_path / "cache", {"train": many[:1500], "test": many[1500:]}, 8)
        assert "broken.png" in caplog.text and "gone.png" in caplog.text
        caplog.clear()
    train, test = stores["train"], stores["test"]
    assert (len(train), len(test)) == (1498, 500)
    assert not {7, 1200} & set(train.index.tolist())
    for store in (train, test):  # the rows behind the gaps moved up with their numbers
        for row in (0, 7, 480, len(store) - 1):
            assert np.array_equal(store.images[row], np.asarray(Image.open(many[store.index[row]].path)))


@pytest.mark.parametrize(("count", "allowed"), [(3, 1), (10, 1), (40, 4), (500, 10)])
def test_many_unreadable_files_are_an_error_that_names_some(tmp_path, count, allowed):
    sources = [
        Source(source.path, str(row), row, 0) for row, source in enumerate(write_images(tmp_path / "in", 2) * count)
    ]
    sources = sources[:count]
    for row in range(allowed):
        sources[row] = Source(tmp_path / "gone.png", f"gone{row}", row, 0)
    assert len(decode_once(tmp_path / "cache", {"train": sources}, 8)["train"]) == count - allowed
    sources[allowed] = Source(tmp_path / "gone.png", "last", allowed, 0)
    match = rf"{allowed + 1} of {count} image files cannot be read, more than {allowed}; .*gone0 \(No such file"
    with pytest.raises(UserError, match=match):
        decode_once(tmp_path / "other", {"train": sources}, 8)
    assert finished(tmp_path / "other") == []


def test_a_split_without_a_readable_file_is_an_error(tmp_path):
    sources = write_images(tmp_path / "in", 40)
    sources[3].path.write_text("not an image")
    with pytest.raises(UserError, match=r"no image of the test split can be read; .*3\.png \(not an image"):
        decode_once(tmp_path / "cache", {"train": sources[4:], "test": sources[3:4]}, 8)


def test_an_unwritable_cache_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be stored in .*file"):
        decode_once(tmp_path / "file" / "cache", {"train": write_images(tmp_path / "in", 2)}, 8)


def test_whole_factors_average_boxes(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    boxes = pixels.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(read_image(tmp_path / "a.png", 32) - boxes).max() <= 0.5
    assert np.array_equal(read_image(tmp_path / "a.png", 64), pixels)


def test_centre_square(tmp_path):
    """A horizontal ramp, 90 x 60 to 20: the centre 60 columns, so values 15 ... 74 averaged by 3."""
    ramp = np.broadcast_to(np.arange(90, dtype=np.uint8)[None, :, None], (60, 90, 3))
    Image.fromarray(ramp).save(tmp_path / "wide.png")
    assert np.abs(read_image(tmp_path / "wide.png", 20)[10, :, 0] - (16 + 3.0 * np.arange(20))).max() <= 0.5
    # No whole factor: 60 to 25, centres at 15 + 2.4 (i + 1/2) - 1/2.
    assert np.abs(read_image(tmp_path / "wide.png", 25)[12, :, 0] - (15.7 + 2.4 * np.arange(25))).max() <= 0.6
    # A stripe pattern finer than the target averages to grey: antialiased, not sampled.
    stripes = np.zeros((70, 70, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert np.abs(read_image(tmp_path / "stripes.png", 20)[:, 2:-2].astype(int) - 127).max() < 30


def test_every_mode_becomes_rgb(tmp_path):
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.jpg")
    Image.new("CMYK", (8, 8), (0, 255, 255, 55)).save(tmp_path / "cmyk.tif")
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8), 257 * 50, np.uint16)).save(tmp_path / "sixteen.png")
    expected = {
        "palette.png": (200, 0, 0),
        "grey.jpg": (77, 77, 77),
        "cmyk.tif": (200, 0, 0),
        "clear.png": (255, 255, 255),
        "sixteen.png": (50, 50, 50),
    }
    for name, colour in expected.items():
        image = read_image(tmp_path / name, 8)
        assert image.shape == (8, 8, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - colour).max() <= 1, name


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png", 8), pixels[::-1])


def test_large_jpegs_keep_their_content(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 400)[None, :, None], (400, 400, 3)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "large.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "large.jpg", 20)[10, :, 0] - (np.arange(20) + 0.5) * 255 / 20).max() < 4


def test_parts_are_views_of_the_file_or_the_memory(tmp_path):
    sources = write_images(tmp_path / "in", 12)
    on_file = decode_once(tmp_path / "cache", {"train": sources}, 8)["train"]
    in_memory = Store(np.array(on_file.images), on_file.index, on_file.label)
    for store in (on_file, in_memory):
        parts = store.split({"first": 2, "none": 0, "rest": 10})
        assert {name: len(part) for name, part in parts.items()} == {"first": 2, "none": 0, "rest": 10}
        rest = parts["rest"].split({"head": 3, "tail": 7})["tail"]
        assert rest.index.tolist() == list(range(105, 112)) and rest.label.tolist() == [row % 3 for row in range(5, 12)]
        assert np.array_equal(rest.images, store.images[5:])
    assert isinstance(on_file.images, np.memmap) and not on_file.images.flags.writeable
    assert np.shares_memory(rest.images, in_memory.images)


def test_a_store_refuses_columns_of_another_length():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"lengths \[3, 3, 1\]"):
        Store(images, np.arange(3), np.zeros(1))


def _double_or_fail(value: int) -> int:
    if value == 13:
        raise OSError("thirteen")
    return 2 * value


def test_parallel_keeps_the_order_and_passes_errors_on(monkeypatch):
    monkeypatch.setattr("restoration.data.decode.cores", lambda: 3)
    assert list(parallel(_double_or_fail, [(value,) for value in range(9)])) == [2 * value for value in range(9)]
    with pytest.raises(OSError, match="thirteen"):
        list(parallel(_double_or_fail, [(value,) for value in range(20)]))


def test_the_cache_hides_itself_from_git(tmp_path):
    decode_once(tmp_path / "cache", {"train": write_images(tmp_path / "in", 2)}, 8)
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"
    (folder,) = finished(tmp_path / "cache")
    assert json.loads((folder / "store.json").read_text())["splits"] == {"train": 2}
