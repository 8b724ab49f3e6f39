"""Restored variants: what they are, which images have them, and the file that keeps them."""

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mnist_files import write_digits
from random_checkpoint import write_random_checkpoint

from restoration.batch import Batch
from restoration.classifier import Classifier, Restored
from restoration.corruption import Corruption, GaussianNoise
from restoration.data.epoch import Gather
from restoration.data.extra import Variants
from restoration.data.mnist import MNIST
from restoration.errors import UserError
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.training import restored
from restoration.training.restored import restored_variants

NOISE = Corruption(GaussianNoise(), severity="fixed")


@pytest.fixture
def data(tmp_path: Path) -> MNIST:
    write_digits(tmp_path / "data", train=180, test=20)
    found = MNIST(None, root=str(tmp_path / "data"))
    found.setup()
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Restored:
    return Restored(share=0.4, restorer=str(write_random_checkpoint(tmp_path)))


def made(data: MNIST, settings: Restored, name: str = "noise") -> Variants:
    return restored_variants(data, settings, NOISE, name)


def files(data: MNIST) -> set[Path]:
    return set((Path(data.root) / ".store-32" / "restored").glob("*.bin"))


def epoch(data: MNIST, number: int) -> Batch:
    data.trainer = SimpleNamespace(current_epoch=number)  # type: ignore[assignment]
    rows = torch.arange(len(data.splits["train"]))
    return data.on_after_batch_transfer(Gather(data.splits["train"], "train", True)[rows], 0)


def test_a_variant_is_the_image_damaged_and_restored(data: MNIST, settings: Restored):
    variants = made(data, settings)
    store, restorer = data.splits["train"], Restorer.load(settings.restorer)
    assert variants.images.shape == store.images.shape and variants.images.dtype == np.uint8
    for row in (0, 70, len(store) - 1):  # each by itself
        clean = torch.from_numpy(store.images[row].copy()).permute(2, 0, 1)[None].float() / 255
        keys = fold(0, "restored", torch.tensor([int(store.index[row])]))
        degraded = NOISE(clean, keys)[0]
        expected = restorer.restore(degraded, fold(keys, "sampling"), 1).images[0].permute(1, 2, 0) * 255
        assert float((torch.from_numpy(variants.images[row].copy()).float() - expected).abs().max()) < 0.6
        assert np.abs(variants.images[row].astype(int) - store.images[row]).max() > 3


def test_the_share_is_as_asked_and_the_labels_stay(data: MNIST, settings: Restored):
    plain = [epoch(data, number) for number in range(30)]
    variants = made(data, settings)
    data.replacements.append(variants)
    replaced = 0
    for number, before in enumerate(plain):
        batch = epoch(data, number)
        assert torch.equal(batch.label, before.label) and torch.equal(batch.index, before.index)
        new = (batch.clean != before.clean).flatten(1).any(dim=1)
        expected = torch.from_numpy(np.array(variants.images)).permute(0, 3, 1, 2).float() / 255
        assert torch.equal(batch.clean[new], expected[new])  # each image's own
        replaced += int(new.sum())
    count = 30 * len(plain[0])
    assert abs(replaced / count - 0.4) < 4 * (0.4 * 0.6 / count) ** 0.5


def test_variants_are_made_once_for_each_damage_restorer_and_seed(data: MNIST, settings: Restored, monkeypatch):
    first = made(data, settings)
    (file,) = files(data)
    pixels = np.array(first.images)
    whole = os.stat(file)
    made(data, dataclasses.replace(settings, share=0.9))  # the same images, more often
    assert files(data) == {file} and os.stat(file).st_mtime_ns == whole.st_mtime_ns
    # What was written of a file before an interruption is kept; its last part may be incomplete.
    os.truncate(file, (64 + 10) * 32 * 32 * 3 + 5)
    calls: list[int] = []
    restore = Restorer.restore
    monkeypatch.setattr(Restorer, "restore", lambda self, x, *rest: calls.append(len(x)) or restore(self, x, *rest))
    assert np.array_equal(made(data, settings).images, pixels)
    assert calls == [64, len(pixels) - 128]
    monkeypatch.undo()
    for other in (made(data, dataclasses.replace(settings, seed=1)), made(data, settings, "other damage")):
        assert len(other.images) == len(pixels)
    assert len(files(data)) == 3
    assert not np.array_equal(made(data, dataclasses.replace(settings, seed=1)).images, pixels)


def write_classifier(folder: Path, classes: str) -> str:
    classifier = Classifier("test_resnet", list(classes))
    node = {"_target_": "restoration.classifier.Classifier", "name": "test_resnet", "classes": list(classes)}
    state = {f"classifier.{name}": value for name, value in classifier.state_dict().items()}
    torch.save({"config": {"model": node}, "state_dict": state}, folder / "hard.ckpt")
    return str(folder / "hard.ckpt")


def test_hard_images_are_those_that_a_classifier_gets_wrong(data: MNIST, settings: Restored, tmp_path: Path):
    hard = write_classifier(tmp_path, "0123456789")
    classifier = Classifier.load(hard)
    store = data.splits["train"]
    with torch.no_grad():
        images = torch.from_numpy(store.images.copy()).permute(0, 3, 1, 2).float() / 255
        wrong = (classifier(images).argmax(1) != torch.from_numpy(store.label)).numpy()
    assert 0 < wrong.sum() < len(wrong)
    variants = made(data, dataclasses.replace(settings, hard=hard, share=1.0))
    rows = torch.arange(len(store))
    assert np.array_equal((variants.candidates(rows, rows, rows) >= 0).numpy(), wrong)
    assert np.array_equal(variants.images, made(data, settings).images[wrong])
    few = made(data, dataclasses.replace(settings, hard=hard, images=7))
    chosen = (few.candidates(rows, rows, rows) >= 0).numpy()
    assert chosen.sum() == 7 and not (chosen & ~wrong).any() and len(few.images) == 7


def test_a_classifier_that_cannot_judge_is_one_line(data: MNIST, settings: Restored, tmp_path: Path, monkeypatch):
    other = dataclasses.replace(settings, hard=write_classifier(tmp_path, "ab"))
    with pytest.raises(UserError, match=r"hard: it knows 2 \(a, b\) classes, and the data have 10 \(0, 1, 2 …\)"):
        made(data, other)
    labels = torch.nn.functional.one_hot(torch.from_numpy(data.splits["train"].label), 10)
    monkeypatch.setattr(restored, "CHUNK", len(labels))
    monkeypatch.setattr(Classifier, "forward", lambda *_: labels)
    with pytest.raises(UserError, match="gets every training image right; give an earlier run, or null"):
        made(data, dataclasses.replace(settings, hard=write_classifier(tmp_path, "0123456789")))


def test_a_folder_that_cannot_be_written_is_one_line(data: MNIST, settings: Restored, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(UserError, match="which cannot be written"):
        made(data, settings)
