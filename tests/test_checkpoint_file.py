"""Checkpoint files: atomic, checked, and never with broken weights."""

import errno
import os
import random
import zipfile
from pathlib import Path

import pytest
import torch

from restoration.checkpoint_file import CheckpointFiles, DamagedFileError, check, load, read_checkpoint, save
from restoration.errors import UserError

STATE = {"state_dict": {"weight": torch.arange(1000.0)}, "global_step": 3, "config": {"backbone": {}, "estimator": {}}}


def test_what_is_saved_is_loaded_by_us_by_torch_and_by_zip(tmp_path: Path):
    path = tmp_path / "folder" / "last.ckpt"
    save(STATE, path)
    for loaded in (load(path), torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
        assert torch.equal(loaded["state_dict"]["weight"], STATE["state_dict"]["weight"])
    assert zipfile.ZipFile(path).testzip() is None
    assert list(path.parent.iterdir()) == [path]


def test_every_flipped_byte_is_detected(tmp_path: Path):
    """60 random ones, and every byte of the last 200, where the checksum and the end record are."""
    path = tmp_path / "last.ckpt"
    save(STATE, path)
    whole = path.read_bytes()
    draw = random.Random(5)
    for at in [*(draw.randrange(len(whole)) for _ in range(60)), *range(len(whole) - 200, len(whole))]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            load(path)
        with pytest.raises(UserError, match=r"is damaged \(DamagedFileError\)"):
            read_checkpoint(path)
    for size in (0, 1, 70, 500, len(whole) - 71, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError):
            check(path)
    path.write_bytes(whole)
    check(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path):
    torch.save(STATE, tmp_path / "old.ckpt")
    assert load(tmp_path / "old.ckpt")["global_step"] == 3


def test_the_temporary_file_is_in_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """$TMPDIR may be on another file system, where a move is a copy, and a copy can be cut short."""
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (seen.append((source, target)), replace(source, target)))
    for step in (1, 2):
        save({"step": step}, tmp_path / "last.ckpt", tmp_path / "previous.ckpt")
    assert {path.parent for pair in seen for path in pair} == {tmp_path}
    assert load(tmp_path / "last.ckpt")["step"] == 2 and load(tmp_path / "previous.ckpt")["step"] == 1


@pytest.mark.parametrize("number", [0, 3, 9])
@pytest.mark.parametrize("code, said", [(errno.ENOSPC, "the disk is full, make room"), (errno.EIO, "Input/output")])
def test_a_full_disk_keeps_the_former_file(number: int, code: int, said: str, tmp_path: Path, monkeypatch):
    path = tmp_path / "last.ckpt"
    save(STATE, path)
    before = path.read_bytes()
    whole_open = Path.open

    class Full:
        """A file that has room for a few writes."""

        def __init__(self, file) -> None:
            self.file, self.left = file, number

        def write(self, data) -> int:
            if self.left == 0:
                raise OSError(code, os.strerror(code))
            self.left -= 1
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *mode: Full(whole_open(self, *mode)))
        with pytest.raises(UserError, match=said):
            save(STATE | {"more": torch.zeros(10)}, path, tmp_path / "previous.ckpt")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(part: str, value: float, tmp_path: Path):
    files, path = CheckpointFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint(STATE, path)
    before = path.read_bytes()
    spoilt = {part: {"count": torch.tensor(3), "layer.weight": torch.tensor([1.0, value])}}
    with pytest.raises(UserError, match=r"the weight layer\.weight is not finite at step 3; no checkpoint was written"):
        files.save_checkpoint(STATE | spoilt, path)
    assert path.read_bytes() == before
