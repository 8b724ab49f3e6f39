"""Images decoded once: a uint8 array in memory, or in a file that is memory-mapped.

A store on disk is a folder of `images.npy`, `index.npy`, `label.npy` and `store.json`, named by a fingerprint of its
sources (names, sizes, modification times, image size). It is built in a temporary folder and then renamed, so an
existing store is complete. If the sources change or a build is interrupted, a new store is built.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from restoration.data.decode import Source, decode
from restoration.errors import UserError

FORMAT = 2  # part of the fingerprint; increase it when the same sources would be decoded differently
UNREADABLE_SHARE = 0.001
FEW = 10  # unreadable files that a set of 100 images or more may have in any case; a smaller one, a tenth
NAMED = 10  # in a message

logger = logging.getLogger(__name__)


@dataclass
class Store:
    """Decoded images of one split.

    Attributes:
        images: uint8 (N, H, W, 3); memory-mapped and read-only if they are in a file.
        index: int64 (N,), identifies each image in its data set.
        label: int64 (N,), or None if there are no classes.

    Raises:
        ValueError: the three differ in length.
    """

    images: np.ndarray
    index: np.ndarray
    label: np.ndarray | None = None

    def __post_init__(self) -> None:
        sizes = [len(part) for part in (self.images, self.index, self.label) if part is not None]
        if len(set(sizes)) != 1:
            raise ValueError(f"the images, indices and labels of a store have lengths {sizes}; they must be equal")

    def __len__(self) -> int:
        return len(self.index)

    def check(self) -> None:
        """UserError if the file has become shorter or unreachable. Reading it would end the process with SIGBUS."""
        mapped = getattr(self.images, "_mmap", None)
        try:
            whole = mapped is None or mapped.size() >= len(mapped)
        except OSError:
            whole = False
        if not whole:
            raise UserError(
                "the file of decoded images has become shorter, or cannot be reached: look at data.root and its disk; "
                "resume=auto decodes the images again and continues from the last checkpoint"
            )

    def split(self, counts: dict[str, int]) -> dict[str, "Store"]:
        """Consecutive parts by name, of these sizes; views of this store's arrays."""
        parts, start = {}, 0
        for name, count in counts.items():
            rows = slice(start, start + count)
            label = None if self.label is None else self.label[rows]
            parts[name] = Store(self.images[rows], self.index[rows], label)
            start += count
        return parts


def decode_once(cache: Path, splits: dict[str, list[Source]], image_size: int) -> dict[str, Store]:
    """Opens the store of these sources in the folder `cache`; builds it first if it is missing or out of date.

    Args:
        cache: folder of the stores of this data set at this size; a build removes other stores in it.
        splits: image files by split.
        image_size: side of the stored squares, in pixels.

    Returns:
        A store for each split, without unreadable files; a warning counts and names them.

    Raises:
        UserError: more than 0.1 % of the files (or ten, or a tenth, if that is more) are unreadable, or all of a
            split; or the cache cannot be written.
    """
    folder = cache / _fingerprint(splits, image_size)[:16]
    if not _is_whole(folder):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            (cache / ".gitignore").write_text("*\n")
        except OSError as error:
            raise UserError(
                f"the decoded images cannot be stored in {cache} ({error.strerror}); "
                "make the folder writable, or point data.root to a writable folder that links to the images"
            ) from error
        with FileLock(cache / ".lock"):  # a second process waits, then finds the store
            if not _is_whole(folder):
                _build(folder, splits, image_size)
    return _open(folder)


def _fingerprint(splits: dict[str, list[Source]], image_size: int) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, image_size, list(splits)]).encode())
    for split, sources in splits.items():
        for source in sources:
            try:
                status = os.stat(source.path)
                state = (status.st_size, status.st_mtime_ns)
            except OSError:  # a dangling link; will be reported as unreadable
                state = (-1, -1)
            digest.update(f"{split}|{source.name}|{source.index}|{source.label}|{state}\n".encode())
    return digest.hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        about = json.loads((folder / "store.json").read_text())
        return about["bytes"] == (folder / "images.npy").stat().st_size
    except (OSError, ValueError, KeyError):
        return False


def _open(folder: Path) -> dict[str, Store]:
    about = json.loads((folder / "store.json").read_text())
    if about["unreadable"]:
        logger.warning("ignored %d unreadable files: %s", len(about["unreadable"]), _first(about["unreadable"]))
    label = np.load(folder / "label.npy") if (folder / "label.npy").exists() else None
    images = np.load(folder / "images.npy", mmap_mode="r")
    return Store(images, np.load(folder / "index.npy"), label).split(about["splits"])


def _first(unreadable: list[str]) -> str:
    return "; ".join(unreadable[:NAMED]) + ("; …" if len(unreadable) > NAMED else "")


def _build(folder: Path, splits: dict[str, list[Source]], size: int) -> None:
    sources = [source for split in splits.values() for source in split]
    building = folder.with_name(".building")
    shutil.rmtree(building, ignore_errors=True)  # left by a killed process: this one holds the lock
    building.mkdir()
    try:
        failures = decode(building / "images.npy", sources, size)
        unreadable = [f"{sources[row].name} ({reason})" for row, reason in sorted(failures.items())]
        allowed = int(max(UNREADABLE_SHARE * len(sources), min(FEW, math.ceil(len(sources) / 10))))
        if len(failures) > allowed:
            raise UserError(
                f"{len(failures)} of {len(sources)} image files cannot be read, more than {allowed}; "
                f"replace or remove them: {_first(unreadable)}"
            )
        kept = np.array([row for row in range(len(sources)) if row not in failures], np.int64)
        if failures:
            images = np.load(building / "images.npy", mmap_mode="r")
            shape = (len(kept), *images.shape[1:])
            smaller = np.lib.format.open_memmap(building / "readable.npy", "w+", np.uint8, shape)
            for row, old in enumerate(kept):
                smaller[row] = images[old]
            os.replace(building / "readable.npy", building / "images.npy")
        np.save(building / "index.npy", np.array([sources[row].index for row in kept], np.int64))
        if all(source.label is not None for source in sources):
            np.save(building / "label.npy", np.array([sources[row].label for row in kept], np.int64))
        starts = np.cumsum([0, *map(len, splits.values())])
        counts = np.diff(np.searchsorted(kept, starts)).tolist()
        for (split, files), count in zip(splits.items(), counts, strict=True):
            if files and not count:
                raise UserError(f"no image of the {split} split can be read; replace or remove: {_first(unreadable)}")
        about = {
            "bytes": (building / "images.npy").stat().st_size,
            "splits": dict(zip(splits, counts, strict=True)),
            "unreadable": unreadable,
        }
        (building / "store.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged store of this name
        os.rename(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
