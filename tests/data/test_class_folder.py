"""A folder for each class: labels, names, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from restoration.corruption import Corruption, GaussianBlur
from restoration.data.class_folder import ClassFolder
from restoration.data.image_folder import ImageFolder
from restoration.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(root / name)
    return root


def made(kind: type[ImageFolder], root: Path) -> ImageFolder:
    return kind(Corruption(GaussianBlur()), root=str(root), image_size=8)


def test_labels_follow_the_sorted_names(tmp_path: Path):
    touch(tmp_path, *(f"{name}/deep/{number}.png" for name in ("zebra", "ape") for number in range(30)))
    data = made(ClassFolder, tmp_path)
    data.prepare_data()
    assert data.classes == ["ape", "zebra"]
    sources = data.list_splits()
    for sources in data.list_splits().values():
        assert all(source.label == (source.name.startswith("zebra")) for source in sources)
    assert sum(int(store.label.sum()) for store in data.splits.values()) == 30
    # The splits are those of the same folder without classes.
    other = made(ImageFolder, tmp_path)
    assert [s.index for s in other.list_splits()["train"]] == [s.index for s in data.list_splits()["train"]]
    assert other.classes is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/0.png", "a/1.png", "a/2.png"], "two or more folders"),
        (["a/0.png", "b/1.png", "2.png"], "two or more folders"),
        ([*(f"a/{number}.png" for number in range(20)), "b/8.png"], "the class b has no training image"),
    ],
)
def test_folders_without_classes_are_refused(tmp_path: Path, names: list[str], message: str):
    with pytest.raises(UserError, match=message):
        made(ClassFolder, touch(tmp_path, *names)).list_splits()
