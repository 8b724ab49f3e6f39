"""Any folder of pictures, of any sizes, brought to squares of one size."""

import hashlib
import logging
from pathlib import Path

from restoration.corruption import Corruption
from restoration.data.datamodule import RestorationDataModule
from restoration.data.decode import SUFFIXES, Source, find_pictures
from restoration.data.store import Store, decode_once
from restoration.errors import UserError

__all__ = ["ImageFolder", "list_splits"]

SELECTION_SHARE = 0.02
TEST_SHARE = 0.05

logger = logging.getLogger(__name__)


class ImageFolder(RestorationDataModule):
    """All pictures in a folder and the folders in it, decoded once, split by their names.

    About 2 % of the images select models and 5 % are for the test. Where an image belongs, and its index, follow
    from its path under `root` alone, so both stay when other files come or go.

    Args:
        corruption: what damages the images.
        root: the folder of pictures; the decoded images are kept in a hidden folder there.
        image_size: side in pixels of the squares: the short side is brought to it, and the centre kept.
        batch_size: images of a training batch.
        eval_batch_size: images of a batch in evaluation.
        device: "cpu" to read batches from the file, "cuda" to hold the training images on the GPU.
        seed: keys the order of the epochs and the corruption in training.
    """

    def __init__(
        self,
        corruption: Corruption,
        root: str,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(corruption, image_size, batch_size, eval_batch_size, device, seed)
        self.root = Path(root)

    def load_splits(self) -> dict[str, Store]:
        splits = list_splits(self.root)
        return decode_once(self.root / f".store-{self.image_size}" / "image_folder", splits, self.image_size)


def list_splits(root: Path) -> dict[str, list[Source]]:
    """The image files under `root`, hidden ones left out, in the order of their names, by split.

    A split that would stay empty takes the nearest image of the training split; with few images this one may
    change when files are added.

    Raises:
        UserError: there is no such folder, or it has fewer than three images, one for each split.
    """
    if not root.is_dir():
        raise UserError(f"there is no image folder {root}; point `data.root=` to a folder of pictures")
    names, others = find_pictures(root)
    names.sort()
    if len(names) < 3:
        raise UserError(
            f"{root} has {len(names)} images ({', '.join(sorted(SUFFIXES))}); training needs at least 3, one each "
            "to learn, select and test; add pictures, or point `data.root=` to another folder"
        )
    keys = {name: _key(name) for name in names}
    position = {name: (key & 0xFFFFFFFF) / 2**32 for name, key in keys.items()}  # uniform in [0, 1)
    chosen: dict[str, list[str]] = {"train": [], "selection": [], "test": []}
    for name in names:
        held_out = "selection" if position[name] < SELECTION_SHARE else "test"
        chosen["train" if position[name] >= SELECTION_SHARE + TEST_SHARE else held_out].append(name)
    for split in ("selection", "test", "train"):
        if not chosen[split]:
            donor = max(chosen.values(), key=len)
            moved = min(donor, key=position.__getitem__)
            donor.remove(moved)
            chosen[split].append(moved)
    counts = ", ".join(f"{len(members):,} {split}" for split, members in chosen.items())
    logger.info("%s: %s%s", root, counts, f"; left out files of other kinds: {others}" if others else "")
    return {split: [Source(root / name, name, keys[name]) for name in members] for split, members in chosen.items()}


def _key(name: str) -> int:
    """A non-negative 63-bit number for a name, the same on every machine."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
