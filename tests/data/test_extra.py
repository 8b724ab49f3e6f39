"""Images that take the place of training images: their share, their labels, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mnist_files import write_digits
from PIL import Image

from restoration.batch import Batch
from restoration.data.dead_leaves import DeadLeaves
from restoration.data.epoch import Gather
from restoration.data.extra import Extra, Variants
from restoration.data.mnist import MNIST
from restoration.data.store import Store
from restoration.errors import UserError

DRAWS = 20_000


def write_extra(root: Path, classes: str = "0123456789", each: int = 3) -> Path:
    """Images of one colour that tells the class (red) and the number (green)."""
    for name in classes:
        (root / name / "deep").mkdir(parents=True)
        for number in range(each + int(name)):  # more of some classes than of others
            Image.new("RGB", (32, 32), (int(name), 100 + number, 255)).save(root / name / "deep" / f"{number}.png")
    return root


def digits(root: Path, **options: Any) -> MNIST:
    data = MNIST(None, root=str(root / "data"), **options)
    data.setup()
    return data


def epoch(data: MNIST, number: int) -> Batch:
    """All training images as in an epoch."""
    data.trainer = SimpleNamespace(current_epoch=number)  # type: ignore[assignment]
    rows = torch.arange(len(data.splits["train"]))
    return data.on_after_batch_transfer(Gather(data.splits["train"], "train", True)[rows], 0)


def test_the_share_and_the_labels_are_as_asked(tmp_path: Path):
    write_digits(tmp_path / "data", train=600, test=20)
    data = digits(tmp_path, extra=str(write_extra(tmp_path / "extra")), extra_share=0.3)
    plain = digits(tmp_path)
    replaced, seen = 0, set()
    for number in range(20):
        batch, without = epoch(data, number), epoch(plain, number)
        assert torch.equal(batch.label, without.label) and torch.equal(batch.index, without.index)
        new = (batch.clean != without.clean).flatten(1).any(dim=1)
        pixels = (batch.clean[:, :, 0, 0] * 255).round().long()
        assert torch.equal(new, pixels[:, 2] == 255)
        assert torch.equal(pixels[new, 0], batch.label[new])  # each is of the class that it stands for
        replaced += int(new.sum())
        seen |= set(map(tuple, pixels[new, :2].tolist()))
    count = 20 * len(data.splits["train"])
    assert abs(replaced / count - 0.3) < 4 * (0.3 * 0.7 / count) ** 0.5
    assert len(seen) == sum(3 + name for name in range(10))  # every extra image
    assert {len(store) for name, store in data.splits.items() if name == "extra"} == {75}
    # In evaluation there are none.
    (test,), (expected,) = data.batches("test"), plain.batches("test")
    assert torch.equal(test.clean, expected.clean)


def test_a_share_of_0_changes_nothing_and_one_of_1_all(tmp_path: Path):
    write_digits(tmp_path / "data", train=60, test=20)
    folder = str(write_extra(tmp_path / "extra"))
    plain = epoch(digits(tmp_path, flip=True), 3).clean
    assert torch.equal(epoch(digits(tmp_path, flip=True, extra=folder, extra_share=0.0), 3).clean, plain)
    assert bool((epoch(digits(tmp_path, extra=folder, extra_share=1.0), 3).clean[:, 2] == 1).all())


def test_draws_do_not_depend_on_the_batch(tmp_path: Path):
    write_digits(tmp_path / "data", train=60, test=20)
    data = digits(tmp_path, extra=str(write_extra(tmp_path / "extra")), extra_share=0.5)
    whole = epoch(data, 1)
    part = data.on_after_batch_transfer(Gather(data.splits["train"], "train", True)[torch.tensor([41, 7])], 0)
    assert torch.equal(part.clean, whole.clean[[41, 7]])


def test_images_of_a_class_are_drawn_alike():
    labels = np.array([1, 0, 1, 1])
    extra = Extra(Store(np.zeros((4, 1, 1, 3), np.uint8), np.arange(4), labels), 1.0)
    draws = torch.rand(DRAWS)
    rows = extra.candidates(draws, torch.zeros(DRAWS).long(), torch.ones(DRAWS).long())
    counts = torch.bincount(rows, minlength=4)
    assert counts[1] == 0 and bool(((counts[[0, 2, 3]] / DRAWS - 1 / 3).abs() < 0.02).all())
    last = torch.tensor([1 - 2.0**-24])
    assert extra.candidates(last, torch.zeros(1).long(), torch.ones(1).long()).item() == 3


def test_variants_take_the_place_of_their_own_image_only():
    images = np.arange(2, dtype=np.uint8)[:, None, None, None] + np.full((2, 1, 1, 3), 100, np.uint8)
    variants = Variants(images, np.array([5, 2]), size=8, share=0.25)
    pixels, keys = torch.zeros(DRAWS, 1, 1, 3, dtype=torch.uint8), torch.arange(DRAWS)
    rows = torch.arange(DRAWS) % 8
    found = variants(pixels, keys, rows, rows)[:, 0, 0, 0]
    assert set(found[rows == 5].tolist()) == {0, 100} and set(found[rows == 2].tolist()) == {0, 101}
    assert not found[(rows != 5) & (rows != 2)].any() and not pixels.any()
    assert abs(float((found[rows == 5] > 0).float().mean()) - 0.25) < 0.04


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "there is no such folder"),
        ("", r"has no images; give a folder of images for each class \(0, 1, 2, …\)"),
        ("012345678", "has no readable image of the class 9; each class needs one"),
        ("0123", "has no readable image of the class 4 and 5 more"),
        ("0123456789x", r"x is no class of the data \(0, 1, 2, …\); rename or remove it"),
        ("0123456789.", "has images in no folder of a class"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(tmp_path: Path, classes: str | None, message: str):
    write_digits(tmp_path / "data", train=60, test=20)
    root = tmp_path / "extra"
    if classes is not None:
        root.mkdir()
        write_extra(root, classes.strip("x."))
        (root / "empty").mkdir()
        if classes[-1:] == "x":
            (root / "x").mkdir()
        if classes[-1:] in tuple("x."):
            Image.new("RGB", (32, 32)).save(root / classes[-1] / "1.png")
    with pytest.raises(UserError, match=message):
        digits(tmp_path, extra=str(root), extra_share=0.3)


def test_both_keys_and_classes_are_needed(tmp_path: Path):
    with pytest.raises(UserError, match=r"give both data\.extra=FOLDER and data\.extra_share="):
        MNIST(None, root=str(tmp_path), extra="folder")
    with pytest.raises(UserError, match=r"give both data\.extra=FOLDER and data\.extra_share="):
        MNIST(None, root=str(tmp_path), extra_share=0.3)
    data = DeadLeaves(None, image_size=16, train_images=2, selection_images=1, test_images=1, extra="x", extra_share=1)
    with pytest.raises(UserError, match="the data have no classes"):
        data.setup()
