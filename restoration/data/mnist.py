"""MNIST (LeCun, Cortes and Burges, 1998): 70,000 handwritten digits, 28 x 28 grey pixels on exact black."""

import gzip
import hashlib
import logging
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from filelock import FileLock

from restoration.data.datamodule import RestorationDataModule
from restoration.data.download import download
from restoration.data.store import Store
from restoration.errors import Range, UserError
from restoration.keyed import permutation

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
FOLDERS = ("MNIST/raw", "mnist", ".")  # under the root; a download goes to the first
# Size and MD5 of the .gz file, SHA-256 of its content.
FILES = {
    "train-images-idx3-ubyte": (
        9_912_422,
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        28_881,
        "d53e105ee54ea40749a09fcbcd1e9432",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        1_648_877,
        "9fb629c4189551a2d022fa330f9573f3",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        4_542,
        "ec29112dd5afa0611ce80d1b7f02629c",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MOST_BYTES = 100_000_000  # of one file's content; the largest has 47 MB
SIDE = 28
HELD_OUT = 30  # one in so many training images is in the selection split

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False, kw_only=True)
class MNIST(RestorationDataModule):
    """MNIST, found under `root` as the four official files (packed or not), or downloaded to `root/MNIST/raw`.

    Digits are padded with black to the image size, and their grey is repeated to three channels. "train" has the first
    58,000 training images, "selection" the last 2,000, "test" the 10,000 test images in a fixed random order: in the
    files the first half of them is the easier one, so that their start would not stand for all. The index of an image
    is its position in its file, and its label the digit. Files of another content and the same format (Fashion-MNIST,
    a part of MNIST) are used with a warning; of these, too, the last thirtieth is "selection".

    Args, beside those of `RestorationDataModule`:
        root: folder of the files.
        image_size: 28 or more.
        flip: off, because a mirrored digit is none.

    Raises:
        UserError: a file is damaged, or missing and cannot be downloaded.
    """

    root: str
    image_size: Annotated[int, Range(SIDE, 4096)] = 32
    flip: bool = False

    def load_splits(self) -> dict[str, Store]:
        train, test = (self._read(part, *find_or_fetch(Path(self.root), part)) for part in ("train", "t10k"))
        self.classes = [str(digit) for digit in range(10)]
        held_out = math.ceil(len(train) / HELD_OUT)
        order = permutation(len(test), 0, "MNIST").numpy()
        assert test.label is not None
        test = Store(test.images[order], test.index[order], test.label[order])
        return train.split({"train": len(train) - held_out, "selection": held_out}) | {"test": test}

    def _read(self, part: str, images: Path, labels: Path) -> Store:
        pixels, label = _read_idx(images, (SIDE, SIDE)), _read_idx(labels)
        if len(pixels) != len(label) or len(label) < 2 or label.max() > 9:
            raise UserError(f"{images} and {labels} do not belong together, or have no digits; {_remedy(images)}")
        before = (self.image_size - SIDE) // 2
        sides = (before, self.image_size - SIDE - before)
        pixels = np.pad(pixels, ((0, 0), sides, sides))
        # A view: three channels need no more memory than one.
        return Store(
            np.broadcast_to(pixels[..., None], (*pixels.shape, 3)), np.arange(len(label)), label.astype(np.int64)
        )


def find_or_fetch(root: Path, part: str, mirrors: tuple[str, ...] = MIRRORS) -> tuple[Path, Path]:
    """The files of the images and of the labels of a part, "train" or "t10k"; those that are missing are downloaded.

    Raises:
        UserError: a download failed.
    """
    names = [name for name in FILES if name.startswith(part)]
    images, labels = (_found(root, name) or _fetch(root, name, mirrors) for name in names)
    return images, labels


def _found(root: Path, name: str) -> Path | None:
    candidates = (root / folder / f"{name}{suffix}" for folder in FOLDERS for suffix in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _fetch(root: Path, name: str, mirrors: tuple[str, ...]) -> Path:
    target = root / FOLDERS[0] / f"{name}.gz"
    size, md5, sha256 = FILES[name]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{name}.lock")):  # a second process waits, then finds the file
            failures = []
            for mirror in mirrors if not target.is_file() else ():
                logger.info("%s is not in %s; downloading it from %s", name, root, mirror)
                try:
                    download(f"{mirror}{name}.gz", target, size=size, md5=md5)
                    if (found := hashlib.sha256(_content(target)).hexdigest()) != sha256:
                        target.unlink()
                        raise OSError(f"{mirror}{name}.gz is not the expected file (SHA-256 {found})")
                    break
                except OSError as error:
                    failures.append(str(error))
            if not target.is_file():
                raise OSError("; ".join(failures))
    except OSError as error:
        raise UserError(
            f"MNIST was not found: there is no {name}, packed or not, in {root} or {root / FOLDERS[0]}, and {error}; "
            f"fetch it yourself (`curl -L -o {target} {mirrors[0]}{name}.gz`), or point `data.root=` to the folder "
            "that has it; `data=dead_leaves` needs no download"
        ) from error
    return target


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it ends in .gz.

    Raises:
        UserError: it is damaged, or far larger than any of MNIST.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); {_remedy(path)}") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES:,} bytes, far more than MNIST; {_remedy(path)}")
    return content


def _read_idx(path: Path, shape: tuple[int, ...] = ()) -> np.ndarray:
    """The items of an idx file, uint8 (N, *shape). The format: magic number, each dimension, then the bytes.

    Raises:
        UserError: it holds anything else.
    """
    content = _content(path)
    start = 4 * (2 + len(shape))
    header = np.frombuffer(content[: start - start % 4], ">u4") if len(content) >= start else np.zeros(0)
    expected = [0x0801 + len(shape), (len(content) - start) // math.prod(shape), *shape]
    if header.tolist() != expected or len(content) != start + expected[1] * math.prod(shape):
        raise UserError(f"{path} is not an idx file of {'images of 28 x 28' if shape else 'labels'}; {_remedy(path)}")
    if hashlib.sha256(content).hexdigest() != FILES[path.name.removesuffix(".gz")][2]:
        logger.warning("%s is not the official file of MNIST: %s items", path, f"{expected[1]:,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(-1, *shape)


def _remedy(path: Path) -> str:
    return f"remove it to download it again ({', '.join(MIRRORS)})"
