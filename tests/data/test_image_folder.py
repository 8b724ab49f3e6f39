"""A folder of images: which files are found, and the split of each image."""

import os

import numpy as np
import pytest
from PIL import Image

from restoration.corruption import Corruption, GaussianBlur
from restoration.data.image_folder import ImageFolder
from restoration.errors import UserError
from restoration.picture import find_images


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def list_splits(root):
    return ImageFolder(Corruption(GaussianBlur()), root=str(root)).list_splits()


def by_split(root):
    return {split: {source.name: source.index for source in sources} for split, sources in list_splits(root).items()}


def test_shares_of_the_splits(tmp_path):
    touch(tmp_path, [f"{number % 7}/{number}.jpg" for number in range(3000)])
    sizes = {split: len(names) for split, names in by_split(tmp_path).items()}
    # Binomial: 60 +- 8 and 150 +- 12.
    assert 35 < sizes["selection"] < 85 and 114 < sizes["test"] < 186 and sum(sizes.values()) == 3000


def test_an_image_keeps_its_split_when_others_are_added(tmp_path):
    touch(tmp_path, [f"{number}.png" for number in range(400)])
    before = by_split(tmp_path)
    touch(tmp_path, [f"more/{number}.png" for number in range(300)])
    after = by_split(tmp_path)
    assert all(before[split].items() <= after[split].items() for split in before)
    indices = [index for names in after.values() for index in names.values()]
    assert len(set(indices)) == 700 and 0 <= min(indices) and max(indices) < 2**63


@pytest.mark.parametrize("count", [3, 4, 10])
def test_every_split_of_a_small_folder_has_an_image(tmp_path, count):
    touch(tmp_path, [f"{number}.png" for number in range(count)])
    splits = by_split(tmp_path)
    assert min(map(len, splits.values())) >= 1 and sum(map(len, splits.values())) == count
    assert len(splits["train"]) >= count - 2 - (count > 4)


def test_hidden_and_other_files_are_ignored(tmp_path):
    images = ["a.JPG", "b/c.jpeg", "b/d/e.webp", "f.tiff"]
    touch(tmp_path, [*images, "notes.txt", ".hidden.png", ".store-64/x.png", "b/.trash/y.png"])
    assert {name for names in by_split(tmp_path).values() for name in names} == set(images)
    touch(tmp_path, ["g.heic", "b/h.HEIC", "LICENSE"])
    assert find_images(tmp_path)[1] == "2 .heic, 1 .txt, 1 without a suffix"


def test_images_are_found_by_content(tmp_path):
    for name in ("a.dat", "b", "c.jpg", os.fsdecode(b"caf\xe9.png"), "folder.png/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "WEBP")
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path, tmp_path / "again")
    names, others = find_images(tmp_path)
    assert sorted(names) == sorted(["a.dat", "b", "c.jpg", os.fsdecode(b"caf\xe9.png"), "folder.png/d.png"])
    assert others == "1 linked folder, 1 without a suffix"
    data = ImageFolder(Corruption(GaussianBlur()), root=str(tmp_path), image_size=8)
    data.prepare_data()
    assert sum(map(len, data.load_splits().values())) == 5


def test_damaged_photos_do_not_stop_training(tmp_path, caplog):
    for number in range(50):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "7.jpg").write_bytes((tmp_path / "7.jpg").read_bytes()[:200])
    os.mkfifo(tmp_path / "pipe.jpg")
    data = ImageFolder(Corruption(GaussianBlur()), root=str(tmp_path), image_size=8)
    data.prepare_data()
    assert sum(map(len, data.load_splits().values())) == 49
    assert "ignored 2 unreadable files: " in caplog.text and "7.jpg (" in caplog.text
    assert "pipe.jpg (not a regular file but a named pipe)" in caplog.text


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no image folder .*nowhere; point `data.root=`"):
        list_splits(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="has 0 images .*at least 3"):
        list_splits(tmp_path)


def test_images_of_all_sizes_become_squares(tmp_path):
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 90), (33, 32), (20, 20), (64, 64), (100, 70)]):
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    data = ImageFolder(Corruption(GaussianBlur()), root=str(tmp_path), image_size=32)
    data.prepare_data()
    splits = data.load_splits()
    assert sum(map(len, splits.values())) == 5
    assert all(store.images.shape[1:] == (32, 32, 3) and store.label is None for store in splits.values())
    batch = next(data.batches("test"))
    assert batch.index.tolist() == splits["test"].index[: len(batch)].tolist()
