"""Folds are disjoint, cover the training images, and hold the classes in equal shares."""

from pathlib import Path

import numpy as np
import pytest
from mnist_files import write_digits

from restoration.data.dead_leaves import DeadLeaves
from restoration.data.folds import Rows
from restoration.data.mnist import MNIST
from restoration.errors import UserError

pytest.importorskip("sklearn")


def digits(root: Path, **options: int) -> MNIST:
    data = MNIST(None, root=str(root / "data"), batch_size=4, **options)
    data.setup()
    return data


def test_folds_are_disjoint_stratified_and_the_same_for_every_seed(tmp_path: Path):
    write_digits(tmp_path / "data", train=120, test=20)
    whole = digits(tmp_path)
    labels = dict(zip(whole.splits["train"].index.tolist(), whole.splits["train"].label.tolist(), strict=True))
    tests = []
    for fold in range(5):
        data = digits(tmp_path, folds=5, fold=fold)
        train, test = (set(data.splits[name].index.tolist()) for name in ("train", "test"))
        assert not train & test and train | test == labels.keys()
        assert not (train | test) & set(data.splits["selection"].index.tolist())
        counts = np.bincount([labels[index] for index in test], minlength=10)
        assert counts.min() >= 2 and counts.max() - counts.min() <= 1
        again = digits(tmp_path, folds=5, fold=fold, seed=7)
        assert np.array_equal(again.splits["test"].index, data.splits["test"].index)
        tests.append(test)
    assert sum(map(len, tests)) == len(set().union(*tests)) == len(labels)


def test_images_and_labels_stay_together(tmp_path: Path):
    write_digits(tmp_path / "data", train=120, test=20)
    whole, data = digits(tmp_path), digits(tmp_path, folds=3, fold=1)
    place = {index: row for row, index in enumerate(whole.splits["train"].index.tolist())}
    seen = []
    for batch in data.batches("test"):
        for image, index, label in zip(batch.clean, batch.index.tolist(), batch.label.tolist(), strict=True):
            original = whole.splits["train"]
            assert np.array_equal((image.permute(1, 2, 0) * 255).round().byte().numpy(), original.images[place[index]])
            assert label == original.label[place[index]]
            seen.append(index)
    assert seen == data.splits["test"].index.tolist()


def test_images_without_classes_have_folds_too():
    leaves = {"image_size": 16, "train_images": 10, "selection_images": 2, "test_images": 2}
    parts = [DeadLeaves(None, folds=5, fold=fold, **leaves) for fold in range(5)]
    for part in parts:
        part.setup()
    found = np.concatenate([part.splits["test"].index for part in parts])
    assert len(found) == 10 == len(set(found.tolist()))


def test_rows_are_those_of_the_array():
    images = np.arange(24).reshape(6, 2, 2, 1)
    rows = Rows(images, np.array([4, 0, 5]))
    assert len(rows) == 3 and rows.shape == (3, 2, 2, 1) and rows.nbytes == images[:3].nbytes
    assert np.array_equal(np.ascontiguousarray(rows), images[[4, 0, 5]])
    assert np.array_equal(rows[np.array([2, 0])], images[[5, 4]]) and np.array_equal(rows[1:], images[[0, 5]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5}, "give both data.folds and data.fold"),
        ({"folds": 3, "fold": 3}, "data.fold=3: with data.folds=3 it must be from 0 to 2"),
        ({"folds": 20, "fold": 0}, "data.folds=20: a class has only 1[0-2] training images"),
    ],
)
def test_a_mistake_is_one_line(options: dict, message: str, tmp_path: Path):
    write_digits(tmp_path / "data", train=120, test=20)
    with pytest.raises(UserError, match=message):
        digits(tmp_path, **options)
