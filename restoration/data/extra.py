"""Other images in the place of some training images: a folder of further ones, or variants of their own."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restoration.data.decode import Source
from restoration.data.store import Store, decode_once
from restoration.errors import UserError
from restoration.keyed import fold, uniform
from restoration.picture import find_images, printable


class Replacement(ABC):
    """Takes the place of training images with a probability. Their labels stay.

    Args:
        images: uint8 (M, H, W, 3).
        share: the probability, for an image that may be replaced.
    """

    def __init__(self, images: np.ndarray, share: float) -> None:
        self.images, self.share = images, share

    @abstractmethod
    def candidates(self, draws: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """The row in `images` that may replace each training image: int64 (B,), −1 for none.

        Args:
            draws: uniform in [0, 1), (B,).
            rows: of the training images in their store, int64 (B,).
            labels: of the training images, int64 (B,).
        """

    def __call__(self, pixels: Tensor, keys: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """Training images uint8 (B, H, W, 3), some of them replaced; all draws come from the keys int64 (B,)."""
        draws = uniform(fold(keys, type(self).__name__), 2)
        chosen = self.candidates(draws[:, 1], rows, labels)
        places = ((draws[:, 0] < self.share) & (chosen >= 0)).nonzero()[:, 0]
        if not len(places):
            return pixels
        pixels = pixels.clone()
        new = torch.from_numpy(np.ascontiguousarray(self.images[chosen[places].numpy()]))
        pixels[places.to(pixels.device)] = new.to(pixels.device)
        return pixels


class Extra(Replacement):
    """Images of a store, each in the place of a training image of the same class, so the classes keep their sizes.

    Args:
        store: with at least one image of each class.
        share: as for `Replacement`.
    """

    def __init__(self, store: Store, share: float) -> None:
        super().__init__(store.images, share)
        assert store.label is not None
        self._order = torch.from_numpy(np.argsort(store.label, kind="stable"))
        self._counts = torch.from_numpy(np.bincount(store.label))
        self._starts = self._counts.cumsum(0) - self._counts

    def candidates(self, draws: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        counts = self._counts[labels]
        return self._order[self._starts[labels] + (draws.double() * counts).long().clamp(max=counts - 1)]


class Variants(Replacement):
    """One variant of each training image, or of some of them.

    Args:
        images: uint8 (M, H, W, 3).
        rows: of the training images that they are variants of, int64 (M,).
        size: number of training images.
        share: as for `Replacement`.
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray, size: int, share: float) -> None:
        super().__init__(images, share)
        self._variant = torch.full((size,), -1)
        self._variant[torch.from_numpy(rows)] = torch.arange(len(rows))

    def candidates(self, draws: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        return self._variant[rows]


def extra_images(root: Path, classes: list[str] | None, image_size: int) -> Store:
    """The images `root/<class>/….png`, at any depth below it, decoded once into a hidden folder of `root`.

    Args:
        root: the folder.
        classes: names of the classes of the data; None if they have none.
        image_size: side in pixels.

    Raises:
        UserError: the data have no classes, there is no such folder, it has no images, an image is in no folder of a
            class, or a class has no readable image.
    """
    if classes is None:
        raise UserError(f"data.extra={root}: the data have no classes; leave it out, or give data with classes")
    if not root.is_dir():
        raise UserError(f"data.extra={root}: there is no such folder; give one with a folder of images for each class")
    names, _ = find_images(root)
    labels = {name: label for label, name in enumerate(classes)}
    owners = {name: printable(name.partition("/")[0]) if "/" in name else "" for name in sorted(names)}
    some = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
    if not owners:
        raise UserError(f"data.extra={root} has no images; give a folder of images for each class ({some})")
    if "" in owners.values():
        raise UserError(f"data.extra={root} has images in no folder of a class; sort them into folders ({some})")
    if unknown := sorted(set(owners.values()) - set(classes)):
        raise UserError(f"data.extra={root}: {unknown[0]} is no class of the data ({some}); rename or remove it")
    sources = [
        Source(root / name, printable(name), number, labels[owner])
        for number, (name, owner) in enumerate(owners.items())
    ]
    store = decode_once(root / f".store-{image_size}" / "extra", {"extra": sources}, image_size)["extra"]
    if missing := sorted(set(labels.values()) - set(store.label)):  # type: ignore[arg-type]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        name = classes[missing[0]]
        raise UserError(f"data.extra={root} has no readable image of the class {name}{more}; each class needs one")
    return store
