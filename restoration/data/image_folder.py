"""Any folder of images, of any sizes."""

import hashlib
import logging
from pathlib import Path

from restoration.data.datamodule import FileDataModule
from restoration.data.decode import Source
from restoration.errors import UserError
from restoration.picture import find_images, printable

SELECTION_SHARE = 0.02
TEST_SHARE = 0.05

logger = logging.getLogger(__name__)


class ImageFolder(FileDataModule):
    """All images in a folder and its subfolders, brought to squares: the short side is resized, the centre kept.

    About 2 % of the images are the selection split and 5 % the test split. The split of an image and its index depend
    only on its path under `root`, so both stay the same when other files are added or removed. With few images, a
    split that would be empty gets an image of the largest split.

    Raises:
        UserError: there is no such folder, or it has fewer than three images, one for each split.
    """

    store_name = "image_folder"

    def list_splits(self) -> dict[str, list[Source]]:
        root = Path(self.root)
        if not root.is_dir():
            raise UserError(f"there is no image folder {root}; point `data.root=` to a folder of images")
        names, others = find_images(root)
        names.sort()
        if len(names) < 3:
            raise UserError(
                f"{root} has {len(names)} images{f' (other files: {others})' if others else ''}; at least 3 are "
                "needed, one each for training, selection and test; add images, or point `data.root=` to another folder"
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
        logger.info("%s: %s%s", root, counts, f"; ignored files of other kinds: {others}" if others else "")
        return {
            split: [Source(root / name, printable(name), keys[name]) for name in members]
            for split, members in chosen.items()
        }


def _key(name: str) -> int:
    """A 63-bit hash of a name, the same on every machine."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
