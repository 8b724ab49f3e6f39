"""Folds of a data set, for cross-validation by a sweep: data.folds=5 data.fold=0,1,2,3,4 -m."""

from typing import Any

import numpy as np

from restoration.data.store import Store
from restoration.errors import UserError


class Rows:
    """Some rows of an array of images, read when they are asked for: the array may be a file."""

    def __init__(self, images: Any, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype
        self.nbytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self._mmap = getattr(images, "_mmap", None)  # `Store.check` asks it

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> np.ndarray:
        return self._images[self._rows[place]]  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._images[self._rows], dtype)


def in_folds(splits: dict[str, Store], folds: int, fold: int) -> dict[str, Store]:
    """The splits of one run of a cross-validation.

    The training images are divided into folds, the same for every seed, with the classes in each as in the whole. The
    one with this number becomes "test", the others "train"; "selection" stays, and the former "test" is left out. So
    the tests of all runs are disjoint, and together they are the training images.

    Raises:
        UserError: scikit-learn is not installed; there is no such fold; a class, or the whole, has fewer images than
            folds.
    """
    try:
        from sklearn.model_selection import KFold, StratifiedKFold
    except ImportError as error:
        raise UserError(f"data.folds needs scikit-learn ({error}): pip install 'restoration[folds]'") from error
    if not 0 <= fold < folds:
        raise UserError(f"data.fold={fold}: with data.folds={folds} it must be from 0 to {folds - 1}")
    store = splits["train"]
    labels = np.zeros(len(store), np.int64) if store.label is None else store.label
    if (fewest := int(np.unique(labels, return_counts=True)[1].min())) < folds:
        raise UserError(f"data.folds={folds}: a class has only {fewest} training images; give fewer folds")
    kind = KFold if store.label is None else StratifiedKFold
    train, test = list(kind(folds, shuffle=True, random_state=0).split(labels, labels))[fold]
    return {"train": _part(store, train), "selection": splits["selection"], "test": _part(store, test)}


def _part(store: Store, rows: np.ndarray) -> Store:
    label = None if store.label is None else store.label[rows]
    return Store(Rows(store.images, rows), store.index[rows], label)  # type: ignore[arg-type]
