"""Tiny ImageNet: numbering and splits on a small copy of its tree."""

import numpy as np
import pytest
from tiny_imagenet_files import list_splits, members, write_tree

from restoration.corruption import Corruption, GaussianBlur
from restoration.data.tiny_imagenet import TinyImageNet
from restoration.errors import UserError


def test_index_label_and_split(tmp_path):
    splits = list_splits(write_tree(tmp_path, members()))
    train = {source.name: source for source in splits["train"]}
    assert len(train) == 3 * 4 and len(splits["selection"]) == 3 * 2
    source = train["train/n02/n02_12.JPEG"]  # n02 is the second class in sorted order
    assert (source.index, source.label) == (500 + 12, 1)
    assert [source.index for source in splits["selection"]] == [490, 496, 990, 996, 1490, 1496]
    assert [(source.name, source.index, source.label) for source in splits["test"]] == [
        ("val/val_2.JPEG", 2, 1),  # by number: 2 before 10
        ("val/val_10.JPEG", 10, 2),
    ]


def test_index_does_not_depend_on_which_parts_are_present(tmp_path):
    whole = list_splits(write_tree(tmp_path / "whole", members()))
    part = list_splits(write_tree(tmp_path / "part", members((8, 496))))
    numbers = {source.name: source.index for split in whole.values() for source in split}
    assert all(source.index == numbers[source.name] for split in part.values() for source in split)
    assert len(part["selection"]) == 3


def test_decoded_splits(tmp_path):
    write_tree(tmp_path, members())
    for size in (64, 32):
        data = TinyImageNet(Corruption(GaussianBlur()), root=str(tmp_path), image_size=size)
        data.prepare_data()
        splits = data.load_splits()
        assert {split: store.images.shape for split, store in splits.items()} == {
            "train": (12, size, size, 3),
            "selection": (6, size, size, 3),
            "test": (2, size, size, 3),
        }
        assert np.abs(splits["test"].images[:, 5, 5].astype(int) - [[102] * 3, [110] * 3]).max() <= 2
        batch = next(data.batches("test"))
        assert batch.index.tolist() == [2, 10] and batch.label.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("removed", "message"),
    [("wnids.txt", "no wnids.txt"), ("train", "no images in train"), ("val", "no images in val/images for the test")],
)
def test_an_incomplete_folder_is_reported(tmp_path, removed, message):
    files = {name: content for name, content in members().items() if f"/{removed}" not in name}
    with pytest.raises(UserError, match=message):
        list_splits(write_tree(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\n\nval_10.JPEG\tn09\t0\n"},
            "line 3: .*n09.* is not an image and a cl",
        ),
        (
            {"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\nval_10.JPEG\n"},
            "annotations.txt, line 2: .val_10.JPEG. is not",
        ),
        ({"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\n"}, "val_annotations.txt has no line for val_10.JPEG"),
        ({"val/val_annotations.txt": b"\xff\xfe\0rubbish"}, r"annotations.txt, line 1: .* is not an image and a class"),
        ({"val/val_annotations.txt": b""}, "val_annotations.txt has no line for val_2.JPEG"),
        ({"val/val_annotations.txt": None}, "val_annotations.txt is missing"),
        ({"wnids.txt": b""}, "no images in train"),
        ({"wnids.txt": b"\xff\xfe\0\n../../x"}, "no images in train"),
    ],
)
def test_a_malformed_set_is_one_line(tmp_path, change, message):
    files = members() | {f"tiny-imagenet-200/{name}": content for name, content in change.items()}
    folder = write_tree(tmp_path, {name: content for name, content in files.items() if content is not None})
    with pytest.raises(UserError, match=message) as raised:
        list_splits(folder)
    assert "\n" not in str(raised.value)


def test_stray_files_are_ignored_and_named(tmp_path, caplog):
    folder = write_tree(tmp_path, members())
    expected = list_splits(folder)
    strays = ["n01_0 (1)", "n01_00", "n01_", "n02_3", "n01_500", "n01_-1", "n01_\u0663", "foo"]
    for name in [*strays, ".n01_1", "._n01_2"]:
        (folder / "train/n01/images" / f"{name}.JPEG").write_bytes(b"")
    (folder / "val/images/._val_2.JPEG").write_bytes(b"\0\5\x16\7")
    with (folder / "val/val_annotations.txt").open("a") as file:
        file.write("\n\n")
    assert list_splits(folder) == expected
    assert "ignored 8 files that are not n01_<number>.JPEG" in caplog.text


@pytest.mark.parametrize("below", ["", "images"])
def test_validation_images_in_class_folders(tmp_path, below):
    folder = write_tree(tmp_path, members())
    expected = list_splits(folder)["test"]
    for number, wnid in ((2, "n02"), (10, "n03")):
        (folder / "val" / wnid / below).mkdir(parents=True)
        (folder / f"val/images/val_{number}.JPEG").rename(folder / "val" / wnid / below / f"val_{number}.JPEG")
    (folder / "val/images").rmdir()
    (folder / "val/val_annotations.txt").unlink()
    found = list_splits(folder)["test"]
    assert [(source.name, source.index, source.label) for source in found] == [
        (source.name, source.index, source.label) for source in expected
    ]
