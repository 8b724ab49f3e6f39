"""Images decoded once: a uint8 array in memory, or in a file that is memory-mapped.

A store on disk is a folder of `images.npy`, `index.npy`, `label.npy` and `store.json`, named by a fingerprint of its
sources (names, sizes, modification times, image size). It is built in a temporary folder and then renamed, so an
existing store is complete. If the sources change or a build is interrupted, a new store is built.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from restoration.data.decode import Source, cores, decode
from restoration.errors import UserError

__all__ = ["Store", "decode_once"]

FORMAT = 1  # part of the fingerprint; increase it when the same sources would be decoded differently
UNREADABLE_SHARE = 0.001

logger = logging.getLogger(__name__)


class Store:
    """Decoded images of one split.

    Args:
        images: uint8 (N, H, W, 3), or the path of such a `.npy` file, memory-mapped on first use.
        index: int64 (N,), identifies each image in its data set.
        names: N names; for files their relative paths.
        label: int64 (N,), or None if there are no classes.
        rows: the rows of `images` that belong to this store; None is all.

    Raises:
        ValueError: index, names and label differ in length.
    """

    def __init__(
        self,
        images: np.ndarray | Path,
        index: np.ndarray,
        names: list[str],
        label: np.ndarray | None = None,
        rows: slice | np.ndarray | None = None,
    ) -> None:
        self._source = images
        self._rows = rows
        self._opened: np.ndarray | None = None
        self.index = np.asarray(index, np.int64)
        self.names = list(names)
        self.label = None if label is None else np.asarray(label, np.int64)
        for field, size in (("names", len(self.names)), ("label", len(self.index if label is None else label))):
            if size != len(self.index):
                raise ValueError(f"a store of {len(self.index)} indices has {size} {field}; it needs one for each")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def images(self) -> np.ndarray:
        """uint8 (N, H, W, 3), read-only if it is in a file.

        Consecutive rows are a view. Other rows are copied into memory, once.
        """
        if self._opened is None:
            whole = self._source if isinstance(self._source, np.ndarray) else np.load(self._source, mmap_mode="r")
            self._opened = whole if self._rows is None else whole[self._rows]
        return self._opened

    def take(self, rows: slice | np.ndarray | list[int]) -> "Store":
        """A store of some rows, a slice or row numbers (M,); reads nothing yet."""
        chosen = np.arange(len(self))[rows]
        label = None if self.label is None else self.label[chosen]
        if self._rows is None:
            inner = chosen
        elif isinstance(self._rows, slice):
            inner = chosen + self._rows.start
        else:
            inner = self._rows[chosen]
        consecutive = len(inner) > 0 and bool((np.diff(inner) == 1).all())
        inside = slice(int(inner[0]), int(inner[-1]) + 1) if consecutive else inner
        return Store(self._source, self.index[chosen], [self.names[row] for row in chosen], label, inside)

    def split(self, counts: dict[str, int]) -> dict[str, "Store"]:
        """Consecutive parts by name, of these sizes."""
        ends = np.cumsum(list(counts.values())).tolist()
        return {name: self.take(slice(end - counts[name], end)) for name, end in zip(counts, ends, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        # An open memory map would be pickled with its whole contents; the path is enough.
        return {**self.__dict__, "_opened": None}


def decode_once(
    cache: Path, splits: dict[str, list[Source]], image_size: int, workers: int | None = None
) -> dict[str, Store]:
    """Opens the store of these sources in the folder `cache`; builds it first if it is missing or out of date.

    Args:
        cache: folder of the stores of this data set at this size; a build removes other stores in it.
        splits: image files by split.
        image_size: side of the stored squares, in pixels.
        workers: processes that decode; None is one for each core.

    Returns:
        A store for each split, without unreadable files; a warning names them.

    Raises:
        UserError: more than 0.1 % of the files are unreadable, or the cache cannot be written.
    """
    fingerprint = _fingerprint(splits, image_size)
    folder = cache / fingerprint[:16]
    if not _is_whole(folder, fingerprint):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            (cache / ".gitignore").write_text("*\n")
        except OSError as error:
            raise UserError(
                f"the decoded images cannot be stored in {cache} ({error.strerror}); "
                "make the folder writable, or point data.root to a writable folder that links to the images"
            ) from error
        with FileLock(cache / ".lock"):  # a second process waits, then finds the store
            if not _is_whole(folder, fingerprint):
                _build(folder, splits, image_size, fingerprint, workers or cores())
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


def _is_whole(folder: Path, fingerprint: str) -> bool:
    try:
        about = json.loads((folder / "store.json").read_text())
        return about["fingerprint"] == fingerprint and about["bytes"] == (folder / "images.npy").stat().st_size
    except (OSError, ValueError, KeyError):
        return False


def _open(folder: Path) -> dict[str, Store]:
    about = json.loads((folder / "store.json").read_text())
    if about["unreadable"]:
        logger.warning("ignored %d unreadable files: %s", len(about["unreadable"]), "; ".join(about["unreadable"]))
    label = np.load(folder / "label.npy") if about["labelled"] else None
    whole = Store(folder / "images.npy", np.load(folder / "index.npy"), about["names"], label)
    return whole.split(about["splits"])


def _build(folder: Path, splits: dict[str, list[Source]], size: int, fingerprint: str, workers: int) -> None:
    for old in folder.parent.glob(".building-*"):  # left by a killed process: this one holds the lock
        shutil.rmtree(old, ignore_errors=True)
    sources = [source for split in splits.values() for source in split]
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        failures = decode(building / "images.npy", sources, size, workers)
        unreadable = [f"{sources[row].name} ({reason})" for row, reason in sorted(failures.items())]
        if len(failures) > UNREADABLE_SHARE * len(sources):
            raise UserError(
                f"{len(failures)} of {len(sources)} image files cannot be read, more than {UNREADABLE_SHARE:.1%}; "
                f"replace or remove them: {'; '.join(unreadable[:5])}{'; …' if len(unreadable) > 5 else ''}"
            )
        kept = np.array([row for row in range(len(sources)) if row not in failures], np.int64)
        if failures:
            _keep_rows(building / "images.npy", kept)
        np.save(building / "index.npy", np.array([sources[row].index for row in kept], np.int64))
        labelled = all(source.label is not None for source in sources)
        if labelled:
            np.save(building / "label.npy", np.array([sources[row].label for row in kept], np.int64))
        starts = np.cumsum([0, *map(len, splits.values())])
        counts = np.diff(np.searchsorted(kept, starts)).tolist()
        about = {
            "fingerprint": fingerprint,
            "bytes": (building / "images.npy").stat().st_size,
            "splits": dict(zip(splits, counts, strict=True)),
            "labelled": labelled,
            "unreadable": unreadable,
            "names": [sources[row].name for row in kept],
        }
        (building / "store.json").write_text(json.dumps(about))
        shutil.rmtree(folder, ignore_errors=True)  # a damaged store of this name
        os.rename(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _keep_rows(path: Path, kept: np.ndarray) -> None:
    """Rewrites the array with these rows only, a few at a time."""
    shape = np.load(path, mmap_mode="r").shape
    spare = path.with_suffix(".spare")
    with open(spare, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(kept), *shape[1:])}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in np.array_split(kept, -(-len(kept) // 4096)):
            file.write(np.load(path, mmap_mode="r")[rows].tobytes())  # mapped again, so that few pages stay resident
    os.replace(spare, path)
