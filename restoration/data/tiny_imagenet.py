"""Tiny ImageNet (Le and Yang, 2015): 200 classes of 500 training and 50 validation images, 64 x 64 pixels.

ImageNet's terms hold for its pictures: non-commercial research, no redistribution.
"""

import logging
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from restoration.corruption import Corruption
from restoration.data.datamodule import RestorationDataModule
from restoration.data.decode import Source
from restoration.data.download import download
from restoration.data.store import Store, decode_once
from restoration.errors import UserError

__all__ = ["TinyImageNet", "find_or_fetch", "list_splits"]

FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"  # without TLS, hence never used before its MD5 is checked
SIZE = 248_100_043
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
IMAGES_PER_CLASS = 500
HELD_OUT = 490  # images of this number and above, in each class, select models and are never trained on

logger = logging.getLogger(__name__)


class TinyImageNet(RestorationDataModule):
    """Tiny ImageNet, found under `root` or downloaded to it, decoded once.

    `train` has the training images whose number in their class is below 490, `selection` the others (2,000),
    `test` the 10,000 validation images, in the order of their numbers. Part of the images will do.

    Args:
        corruption: what damages the images.
        root: folder that holds, or will hold, `tiny-imagenet-200/`; the decoded images are kept there too.
        image_size: side in pixels; 64 as they are, 32 averages boxes of 2 x 2.
        batch_size: images of a training batch.
        eval_batch_size: images of a batch in evaluation.
        device: "cpu" to read batches from the file, "cuda" to hold the training images on the GPU.
        seed: keys the order of the epochs and the corruption in training.
    """

    def __init__(
        self,
        corruption: Corruption,
        root: str = "data",
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(corruption, image_size, batch_size, eval_batch_size, device, seed)
        self.root = Path(root)

    def load_splits(self) -> dict[str, Store]:
        splits = list_splits(find_or_fetch(self.root))
        return decode_once(self.root / f".store-{self.image_size}" / FOLDER, splits, self.image_size)


def find_or_fetch(root: Path, url: str = URL, size: int = SIZE, md5: str = MD5) -> Path:
    """The folder `tiny-imagenet-200` under `root`; unpacked from the official zip there, or downloaded, if need be.

    Raises:
        UserError: it is not there and cannot be downloaded, or the zip there is damaged; says what helps.
    """
    folder, archive = root / FOLDER, root / f"{FOLDER}.zip"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{FOLDER}.lock"):  # of two processes one fetches, the other waits and finds
        if folder.is_dir():
            return folder
        if not archive.is_file():
            logger.info("Tiny ImageNet is not in %s: downloading %s", root, url)
            try:
                download(url, archive, size=size, md5=md5)
            except OSError as error:
                raise UserError(
                    f"Tiny ImageNet was not found: there is no {folder}/ and no {archive}, and {error}. "
                    f"Either fetch it elsewhere (`curl -L -C - -o {archive} {url}`) or point `data.root=` to the "
                    "folder that has it; `data=dead_leaves` needs no download"
                ) from error
        _unpack(archive, folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks all but the unlabelled test images beside `folder`, then renames: `folder` is whole if it exists."""
    unpacking = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as file:
            members = [
                name for name in file.namelist() if name.startswith(f"{FOLDER}/") and f"{FOLDER}/test/" not in name
            ]
            if not members:
                raise UserError(f"{archive} has no folder {FOLDER}/; replace it by the official archive, or remove it")
            for name in tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=None):
                file.extract(name, unpacking)
        os.rename(unpacking / FOLDER, folder)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{archive} ({archive.stat().st_size:,} bytes) is damaged: {error}; "
            f"remove it to have it downloaded anew ({SIZE:,} bytes, MD5 {MD5})"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def list_splits(folder: Path) -> dict[str, list[Source]]:
    """The image files of each split, numbered as the whole data set numbers them.

    The index of a training image is its class's position in the sorted `wnids.txt` x 500 + its number in the class
    (`n01443537_12.JPEG`: 12), whichever images are present; that of a validation image is its number.

    Raises:
        UserError: a part is missing from the folder.
    """
    if not (folder / "wnids.txt").is_file():
        raise UserError(f"{folder} has no wnids.txt; {_cure(folder)}")
    classes = {wnid: position for position, wnid in enumerate(sorted((folder / "wnids.txt").read_text().split()))}
    splits: dict[str, list[Source]] = {"train": [], "selection": [], "test": []}
    for wnid, label in classes.items():
        for number, path in _numbered(folder / "train" / wnid / "images"):
            split = "selection" if number >= HELD_OUT else "train"
            name = f"train/{wnid}/{os.path.basename(path)}"
            splits[split].append(Source(path, name, label * IMAGES_PER_CLASS + number, label))

    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        rows = [line.split("\t") for line in annotations.read_text().splitlines()]
        labels = {row[0]: classes[row[1]] for row in rows}
        for number, path in _numbered(folder / "val" / "images"):
            file = os.path.basename(path)
            splits["test"].append(Source(path, f"val/{file}", number, labels[file]))
    for split, where in (("train", "train/*/images"), ("selection", "train/*/images"), ("test", "val/images")):
        if not splits[split]:
            raise UserError(f"{folder} has no images in {where} for the {split} split; {_cure(folder)}")
    logger.info(
        "Tiny ImageNet in %s: %s", folder, ", ".join(f"{len(files):,} {name}" for name, files in splits.items())
    )
    return splits


def _numbered(folder: Path) -> list[tuple[int, str]]:
    """Numbers and paths of the images `<something>_<number>.JPEG` of a folder, in order; [] without the folder."""
    if not folder.is_dir():
        return []
    # Strings, not Path objects: they would take longer for 100,000 files than the opening of the store.
    names = [name for name in os.listdir(folder) if name.endswith(".JPEG")]
    return sorted((int(name[name.rindex("_") + 1 : -len(".JPEG")]), os.path.join(folder, name)) for name in names)


def _cure(folder: Path) -> str:
    return f"complete it from the official archive, or `rm -r {folder}` to have it downloaded"
