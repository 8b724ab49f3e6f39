"""Decoded images that vanish during a training: one line, and a run that continues."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FEW_PASSES, TINY_NETWORK, TINY_RUN, callback_file, complaint, last, run_command
from lightning.pytorch import Callback
from PIL import Image

from restoration.data.store import Store
from restoration.errors import UserError
from restoration.train import main

RUN = Path("outputs/blur_erase/run")


class Cut(Callback):
    """Cuts the file of decoded images after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and not trainer.ckpt_path:
            (file,) = Path("photos").rglob("images.npy")
            with file.open("r+b") as opened:
                opened.truncate(200)


def mapped(folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", np.zeros((40, 16, 16, 3), np.uint8))
    return np.load(folder / "images.npy", mmap_mode="r")


def test_a_file_that_has_become_shorter_is_not_read(tmp_path: Path):
    store = Store(mapped(tmp_path), np.arange(40)).split({"train": 30, "test": 10})["test"]
    store.check()
    with (tmp_path / "images.npy").open("r+b") as file:
        file.truncate(200)
    with pytest.raises(UserError, match="has become shorter, or cannot be reached: look at data.root"):
        store.check()


def test_a_deleted_file_is_read_to_the_end(tmp_path: Path):
    store = Store(mapped(tmp_path), np.arange(40))
    (tmp_path / "images.npy").unlink()
    store.check()
    assert store.images.sum() == 0
    Store(np.zeros((2, 4, 4, 3), np.uint8), np.arange(2)).check()


@pytest.mark.slow
def test_a_training_ends_in_one_line_and_continues(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    Path("photos").mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), (6 * number, 0, 0)).save(f"photos/{number}.png")
    data = [
        "data=image_folder",
        "data.root=photos",
        "data.image_size=16",
        "data.batch_size=4",
        "data.eval_batch_size=4",
    ]
    job = ["experiment=blur_erase", *data, *TINY_NETWORK, *TINY_RUN, *FEW_PASSES, "trainer.max_steps=6"]
    job += ["data.eval_batch_size=4", "trainer.val_check_interval=2"]
    flags = callback_file(tmp_path / "conf", "test_vanished.Cut", step=3)
    assert run_command(main, *job, "callbacks=extended", flags=flags) == 2
    assert "has become shorter" in complaint(capsys) and last(RUN)["global_step"] == 2
    assert run_command(main, *job, "resume=auto", "trust=test_vanished") == 0
    assert last(RUN)["global_step"] == 6
