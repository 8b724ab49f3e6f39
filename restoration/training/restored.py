"""Damaged and restored variants of training images, made once and kept in a file beside the decoded images."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from restoration.classifier import Classifier, Restored
from restoration.classifier.ensemble import shown_classes
from restoration.corruption import Corruption
from restoration.data.datamodule import RestorationDataModule
from restoration.data.extra import Variants
from restoration.data.store import Store
from restoration.errors import UserError
from restoration.keyed import fold, permutation
from restoration.restorer import GROUPS, Restorer

CHUNK = 64  # images that are restored at a time
FORMAT = 1  # part of the file's name; increase it when the same images would be restored differently

log = logging.getLogger(__name__)


def restored_variants(
    data: RestorationDataModule,
    settings: Restored,
    corruption: Corruption,
    name: str,
    device: torch.device | str = "cpu",
    trust: Any = None,
) -> Variants:
    """The variants of the training images, from their file if it is there.

    The file is `restored/<key>.bin` in the folder of the decoded images, of the variants as uint8. The key is a hash of
    the images and of all that their variants depend on. An incomplete file is continued.

    Args:
        data: set up, with labels.
        settings: as in the config, with files in the place of run folders.
        corruption: the damage; keyed by the settings' seed and the image index alone, as is the restorer's noise.
        name: identifies the corruption.
        device: on which to restore.
        trust: as `Restorer.load`.

    Raises:
        UserError: a checkpoint cannot be read; the classifier of `hard` knows other classes, or gets no image wrong; the
            folder cannot be written.
    """
    store, restorer = data.splits["train"], Restorer.load(settings.restorer, device, trust)
    rows = np.arange(len(store))
    if settings.hard is not None:
        rows = _wrong(Classifier.load(settings.hard, device, trust), data)
    if settings.images is not None:
        rows = np.sort(rows[permutation(len(rows), settings.seed, "restored").numpy()[: settings.images]])
    parts = [restorer.config[group] for group in GROUPS]
    about = json.dumps([FORMAT, parts, name, settings.nfe, settings.seed, data.image_size], sort_keys=True)
    digest = hashlib.blake2b(about.encode() + store.index[rows].tobytes(), digest_size=8)
    for weight in restorer.state_dict().values():
        digest.update(weight.cpu().contiguous().numpy().data)
    for part in _parts(rows):
        digest.update(np.ascontiguousarray(store.images[part]).data)
    folder = Path(getattr(data, "root", "data")) / f".store-{data.image_size}" / "restored"
    file = folder / f"{digest.hexdigest()}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        with FileLock(folder / ".lock"):  # a second process waits, then finds the file
            _complete(file, store, rows, settings, corruption, restorer)
    except PermissionError as error:
        raise UserError(
            f"augmentation=restored keeps its images in {folder}, which cannot be written ({error.strerror}); make it "
            "writable, or give another data.root="
        ) from error
    images = np.memmap(file, np.uint8, "r", shape=(len(rows), *store.images.shape[1:]))
    log.info(
        "%s of %s training images have restored variants (%s); share %s",
        *(f"{len(rows):,}", f"{len(store):,}", file, settings.share),
    )
    return Variants(images, rows, len(store), settings.share)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _images(store: Store, rows: np.ndarray, device: torch.device) -> Tensor:
    """Rows of a store as float32 (B, 3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(store.images[rows])).to(device)
    return pixels.permute(0, 3, 1, 2).float().div_(255).contiguous()


@torch.no_grad()
def _wrong(classifier: Classifier, data: RestorationDataModule) -> np.ndarray:
    """The rows of the training images to which a classifier gives another class than their label's."""
    store, device = data.splits["train"], classifier.mean.device
    if classifier.classes != data.classes:
        known, shown = map(shown_classes, (classifier.classes, data.classes or []))
        raise UserError(
            f"augmentation.restored.hard: it knows {known} classes, and the data have {shown}; give another"
        )
    assert store.label is not None
    parts = [classifier(_images(store, part, device)).argmax(dim=1).cpu() for part in _parts(np.arange(len(store)))]
    rows = np.flatnonzero(torch.cat(parts).numpy() != store.label)
    if not len(rows):
        raise UserError("augmentation.restored.hard: it gets every training image right; give an earlier run, or null")
    return rows


def _complete(
    file: Path, store: Store, rows: np.ndarray, settings: Restored, corruption: Corruption, restorer: Restorer
) -> None:
    """Restores what the file lacks."""
    size = int(np.prod(store.images.shape[1:]))
    have = file.stat().st_size if file.is_file() else 0
    first = len(rows) if have == size * len(rows) else have // (size * CHUNK) * CHUNK
    if first == len(rows):
        return
    device = restorer.device
    log.info("restoring %s training images, once", f"{len(rows) - first:,}")
    with file.open("ab") as opened, tqdm(total=len(rows), initial=first, unit="image", disable=None) as bar:
        opened.truncate(first * size)
        for part in _parts(rows[first:]):
            keys = fold(settings.seed, "restored", torch.from_numpy(store.index[part]))
            degraded, _, _ = corruption(_images(store, part, device), keys)
            images = restorer.restore(degraded, fold(keys, "sampling").to(device), settings.nfe).images
            opened.write((images * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes())
            opened.flush()
            bar.update(len(part))
