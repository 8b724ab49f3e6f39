"""Checkpoint files: written whole or not at all, never with broken weights, and checked when they are read.

The SHA-256 of the content is the comment of the zip archive that `torch.save` writes. `torch.load` and zip programs
ignore it. A file and its checksum are thus replaced in one step, and they stay together when the file is copied.
"""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer
from torch import Tensor

from restoration.errors import UserError
from restoration.trust import check_targets, load_tensors
from restoration.weights_file import read_weights

_KINDS = {"backbone": "restorer", "model": "classifier"}
_MAGIC = b"sha256:"
_COMMENT = len(_MAGIC) + 64
_END = b"PK\x05\x06"  # the last record of a zip archive; 22 bytes, of which the last two are the comment's length


class DamagedFileError(Exception):
    """A checkpoint file whose bytes are not those that were written."""


class _Hashing:
    """Writes to a file, leaves out the last two bytes and hashes the rest. It keeps an OSError for `save` to raise,
    because PyTorch's writer would replace it by an error of its own.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None
        self._last = b""

    def _put(self, data: bytes | memoryview) -> None:
        self.digest.update(data)
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error

    def write(self, data: bytes | memoryview) -> int:
        size = len(data)
        if size >= 2:
            self._put(self._last)
            self._put(memoryview(data)[:-2])
            self._last = bytes(data[-2:])
        else:
            whole = self._last + bytes(data)
            self._put(whole[:-2])
            self._last = whole[-2:]
        return size

    def flush(self) -> None:
        """Nothing: `save` synchronises the file at the end."""

    def finish(self) -> None:
        """Replaces the length of the comment, the last two bytes, and adds the comment."""
        self._put(_COMMENT.to_bytes(2, "little") + _MAGIC)
        self._put(self.digest.hexdigest().encode())


def save(state: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Writes a checkpoint so that `path` always holds a complete file, on any file system.

    The temporary file is in the same folder, is synchronised to the disk, and then replaces the target.

    Args:
        state: what to write.
        path: the file.
        previous: where the former content of `path` is kept; None drops it.

    Raises:
        UserError: the disk is full or the folder cannot be written. The former file is unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            writer = _Hashing(file)
            try:
                torch.save(state, writer)  # type: ignore[arg-type]
                writer.finish()
            finally:
                if writer.error is not None:
                    raise writer.error
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(part, path)
        _synchronise(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {reason(error)}; the file before it is unchanged") from error


def reason(error: OSError) -> str:
    """What the operating system refused, and what helps."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "the disk is full, make room" if full else str(error.strerror or error)


def _synchronise(folder: Path) -> None:
    """A rename is only durable when its folder is synchronised. Some network file systems do not offer that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def check(path: str | Path) -> None:
    """DamagedFileError if a byte of the file has changed or is missing.

    Files of other programs and of version 0.2.0 have no checksum; only their end is checked.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(0, size - _COMMENT))
        comment = file.read()
        if comment.startswith(_MAGIC):
            file.seek(0)
            digest, left = hashlib.sha256(), size - _COMMENT + len(_MAGIC)
            while left and (block := file.read(min(left, 1 << 22))):
                digest.update(block)
                left -= len(block)
            if digest.hexdigest().encode() != comment[len(_MAGIC) :]:
                raise DamagedFileError(f"{path}: its checksum does not match its content")
        elif comment[-22:-18] != _END or comment[-2:] != b"\0\0":
            raise DamagedFileError(f"{path}: it is incomplete, or its checksum is damaged")


def load(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint; tensors and plain containers only.

    Raises:
        DamagedFileError: a byte has changed or is missing.
    """
    check(path)
    return torch.load(path, map_location=map_location, weights_only=True)


def broken(state: dict[str, Any]) -> str | None:
    """The first weight or buffer of a checkpoint that is NaN or infinite, if there is one."""
    for part in ("state_dict", "current_model_state"):
        tensors = {name: value for name, value in state.get(part, {}).items() if isinstance(value, Tensor)}
        floating = {name: value for name, value in tensors.items() if value.is_floating_point()}
        if floating:
            finite = torch.stack([torch.isfinite(value).all().cpu() for value in floating.values()])
            for name, good in zip(floating, finite.tolist(), strict=True):
                if not good:
                    return name
    return None


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's way to files, through `save` and `load`. Weights that are not finite are not written.

    Raises:
        UserError: a weight is not finite; the file cannot be written.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        if (name := broken(checkpoint)) is not None:
            raise UserError(
                f"the weight {name} is not finite at step {checkpoint['global_step']}; no checkpoint was written. "
                "Lower the learning rate or clip gradients (trainer.gradient_clip_val=1)"
            )
        save(checkpoint, Path(path), **(storage_options or {}))

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        return load(os.fspath(path), map_location)


def use_checkpoint_files(trainer: Trainer) -> None:
    """Makes the trainer write its checkpoints through `CheckpointFiles`."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckpointFiles()


def weights_of(path: str | Path) -> Path:
    """The file of weights that a path means: of a run folder the best, else the last, else `final.ckpt`."""
    files = [Path(path) / "checkpoints" / f"{name}.ckpt" for name in ("best", "last", "final")]
    return next((file for file in files if file.is_file()), files[-1]) if Path(path).is_dir() else Path(path)


def read_checkpoint(path: str | Path, trust: Any = None, network: str = "backbone") -> dict[str, Any]:
    """The content of a checkpoint or of a weights file.

    Its config names only what `trust.check_targets` allows, so it can be instantiated.

    Args:
        path: of the file, or of a run folder.
        trust: as `trust.check_targets`.
        network: the group of its config that makes the network: "backbone" of a restorer, "model" of a classifier.

    Raises:
        UserError: no such file, not a checkpoint of this project, of an older version or of the other kind of network,
            or it names other code.
    """
    path = weights_of(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; a run saves checkpoints/best.ckpt in its folder")
    checkpoint: dict[str, Any]
    try:
        if path.suffix == ".safetensors":
            checkpoint = read_weights(path)
        else:
            check(path)
            checkpoint = load_tensors(path)
        config, _ = checkpoint["config"], "".join({**checkpoint["state_dict"]})
        other = next(name for name in _KINDS if name in {**config})
    except Exception as error:
        raise UserError(
            f"{path} is not a checkpoint of this project, or is damaged ({type(error).__name__}); "
            "copy it again or give another"
        ) from error
    if network != other:
        raise UserError(f"{path} is a checkpoint of a {_KINDS[other]}; give one of a {_KINDS[network]}")
    if network == "backbone" and "estimator" not in config:
        raise UserError(f"{path} was written by restoration 0.1; use it with version 0.1.0, or train again")
    check_targets(config, trust, path)
    return checkpoint
