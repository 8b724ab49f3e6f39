"""MNIST: its files found, fetched and refused; padding, splits and labels; no mirrored digits."""

import gzip
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mnist_files import contents, digits, idx, write_digits
from test_download import Server

from restoration.corruption import Corruption, GaussianBlur
from restoration.data import mnist
from restoration.data.mnist import MNIST, find_or_fetch
from restoration.errors import UserError

NAME = "train-images-idx3-ubyte"


def made(root: Path, **options) -> MNIST:
    data = MNIST(Corruption(GaussianBlur()), root=str(root), batch_size=8, eval_batch_size=8, **options)
    data.prepare_data()
    return data


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch):
    """No test reaches a server outside."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("restoration.data.download.PAUSE", 0.01)
    monkeypatch.setattr("restoration.data.mnist.MIRRORS", ("http://127.0.0.1:9/",))


@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_found_packed_or_not(tmp_path: Path, folder: str, packed: bool):
    data = made(write_digits(tmp_path, folder, packed))
    assert {name: len(store) for name, store in data.splits.items()} == {"train": 87, "selection": 3, "test": 20}
    assert data.classes == list("0123456789")


@pytest.mark.parametrize("size, before", [(28, 0), (32, 2), (37, 4)])
def test_pixels_labels_and_indices(tmp_path: Path, size: int, before: int):
    splits = made(write_digits(tmp_path), image_size=size).splits
    images, labels = digits(90, 90)
    expected = np.zeros((90, size, size, 3), np.uint8)
    expected[:, before : before + 28, before : before + 28] = images[..., None]
    np.testing.assert_array_equal(np.concatenate([splits["train"].images, splits["selection"].images]), expected)
    np.testing.assert_array_equal(splits["train"].label, labels[:87])
    np.testing.assert_array_equal(splits["selection"].index, [87, 88, 89])


def test_the_test_split_is_the_same_in_another_order(tmp_path: Path):
    test = made(write_digits(tmp_path), image_size=28).splits["test"]
    images, labels = digits(20, 20)
    assert sorted(test.index) == list(range(20)) and list(test.index) != list(range(20))
    np.testing.assert_array_equal(test.images[..., 0], images[test.index])
    np.testing.assert_array_equal(test.label, labels[test.index])


def test_no_training_image_is_mirrored_unless_asked(tmp_path: Path):
    write_digits(tmp_path)
    for flip in (False, True):
        data = made(tmp_path, image_size=28, flip=flip)
        data.trainer = SimpleNamespace(current_epoch=0, global_rank=0, world_size=1)
        store = data.splits["train"]
        # The bar is symmetric; a stroke at its left makes the difference.
        pixels = torch.from_numpy(store.images.copy())
        pixels[:, 10, 0] = 255
        rows = {"images": pixels, "index": torch.from_numpy(store.index), "split": "train", "place": None}
        clean = data.on_after_batch_transfer(rows, 0).clean
        mirrored = (clean[:, 0, 10, 0] == 0).float().mean()
        assert 0.3 < mirrored < 0.7 if flip else mirrored == 0


def test_batches_have_labels_in_every_split(tmp_path: Path):
    data = made(write_digits(tmp_path))
    for split in ("selection", "test"):
        batch = next(data.batches(split))
        assert batch.label is not None and batch.label.dtype == torch.int64 and batch.clean.shape[1:] == (3, 32, 32)


def test_other_content_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made(write_digits(tmp_path))
    assert f"{NAME} is not the official file of MNIST: 90 items" in caplog.text


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "short header": contents()[NAME][:9],
        "short": contents()[NAME][:-1],
        "long": contents()[NAME] + b"\0",
        "labels": contents()["train-labels-idx1-ubyte"],
        "other type": b"\0\0\x0d\3" + contents()[NAME][4:],
        "other size": idx(np.zeros((4, 14, 56))),
    }.values(),
)
def test_a_malformed_file_is_one_line(tmp_path: Path, content: bytes):
    write_digits(tmp_path)
    (tmp_path / "MNIST/raw" / NAME).write_bytes(content)
    with pytest.raises(UserError, match=f"{NAME} is not an idx file of images of 28 x 28; remove it") as caught:
        made(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_and_bombs_and_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_digits(tmp_path, packed=True)
    path = tmp_path / "MNIST/raw" / f"{NAME}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"\.gz cannot be read .*; remove it"):
        made(tmp_path)
    path.write_bytes(gzip.compress(idx(digits(80, 90)[0])))
    with pytest.raises(UserError, match="do not belong together"):
        made(tmp_path)
    monkeypatch.setattr(mnist, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1,000 bytes"):
        made(tmp_path)


def official(monkeypatch: pytest.MonkeyPatch, packed: bytes, content: bytes) -> None:
    facts = (len(packed), hashlib.md5(packed).hexdigest(), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist, "FILES", {**mnist.FILES, NAME: facts})


def test_a_missing_file_is_fetched_from_the_second_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_digits(tmp_path)
    content = contents()[NAME]
    packed = gzip.compress(content, mtime=0)
    (tmp_path / "MNIST/raw" / NAME).unlink()
    official(monkeypatch, packed, content)
    with Server(packed) as server:
        images, labels = find_or_fetch(tmp_path, "train", ("http://127.0.0.1:9/", f"{server.url}/"))
    assert images == tmp_path / "MNIST/raw" / f"{NAME}.gz" and images.read_bytes() == packed
    assert labels.name == "train-labels-idx1-ubyte" and len(server.requests) == 1
    assert len(made(tmp_path).splits["train"]) == 87


def test_a_wrong_content_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packed = gzip.compress(b"of the right MD5 by design")
    official(monkeypatch, packed, b"another")
    with Server(packed) as server, pytest.raises(UserError, match="not the expected file .SHA-256"):
        find_or_fetch(tmp_path, "train", (f"{server.url}/",))
    assert not list(tmp_path.rglob("*.gz"))


def test_an_unreachable_server_is_one_line(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        made(tmp_path)
    message = str(caught.value)
    for part in (NAME, str(tmp_path), "curl -L -o ", "data.root=", "data=dead_leaves", "could not be downloaded"):
        assert part in message
    assert "\n" not in message
