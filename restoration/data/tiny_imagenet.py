"""Tiny ImageNet (Le and Yang, 2015): 200 classes of 500 training and 50 validation images, 64 x 64 pixels.

ImageNet's terms apply to its images: non-commercial research, no redistribution.
"""

import logging
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from restoration.data.datamodule import FileDataModule
from restoration.data.decode import Source
from restoration.data.download import download
from restoration.errors import UserError
from restoration.picture import printable

FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"  # without TLS, so the MD5 is checked before use
SIZE = 248_100_043
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
MOST_FILES, MOST_BYTES = 200_000, 1_000_000_000  # the official archive has about 120,000 files of 250 MB
IMAGES_PER_CLASS = 500
HELD_OUT = 490  # in each class, images from this number on are the selection split

logger = logging.getLogger(__name__)


class TinyImageNet(FileDataModule):
    """Tiny ImageNet, found as `tiny-imagenet-200/` under `root` or downloaded to it.

    "train" has the training images whose number in their class is below 490, "selection" the others (2,000),
    "test" the 10,000 validation images in the order of their numbers. An incomplete copy of the images is accepted.
    Of the image sizes, 64 leaves the pixels as they are, and 32 averages boxes of 2 x 2.

    The index of an image does not depend on which others are present. That of a training image is the position of its
    class in the sorted `wnids.txt` x 500 + its number in the class (`n01443537_12.JPEG`: 12); that of a validation
    image is its number.

    Raises:
        UserError: a part is missing from the folder, its annotations are malformed, or it cannot be downloaded.
    """

    store_name = FOLDER

    def list_splits(self) -> dict[str, list[Source]]:
        folder = find_or_fetch(Path(self.root))
        remedy = f"complete it from the official archive, or `rm -r {folder}` to download it"
        if not (folder / "wnids.txt").is_file():
            raise UserError(f"{folder} has no wnids.txt; {remedy}")
        wnids = (folder / "wnids.txt").read_text(errors="replace").split()
        classes = {wnid: position for position, wnid in enumerate(sorted(set(wnids)))}
        self.classes = list(classes)
        splits: dict[str, list[Source]] = {"train": [], "selection": [], "test": []}
        for wnid, label in classes.items():
            for number, path in _numbered(folder / "train" / wnid / "images", wnid, IMAGES_PER_CLASS):
                split = "selection" if number >= HELD_OUT else "train"
                name = f"train/{wnid}/{os.path.basename(path)}"
                splits[split].append(Source(path, name, label * IMAGES_PER_CLASS + number, label))
        if splits["train"]:  # Else the classes themselves are wrong.
            splits["test"] = _validation(folder, classes)
        for split, where in (("train", "train/*/images"), ("selection", "train/*/images"), ("test", "val/images")):
            if not splits[split]:
                raise UserError(f"{folder} has no images in {where} for the {split} split; {remedy}")
        counts = ", ".join(f"{len(files):,} {name}" for name, files in splits.items())
        logger.info("Tiny ImageNet in %s: %s", folder, counts)
        return splits


def _validation(folder: Path, classes: dict[str, int]) -> list[Source]:
    """The validation images, of the official layout or sorted into `val/<class>/` or `val/<class>/images/`."""
    images, annotations = folder / "val" / "images", folder / "val" / "val_annotations.txt"
    found: list[tuple[int, str, int]] = []
    if files := _numbered(images, "val"):
        if not annotations.is_file():
            raise UserError(f"{annotations} is missing, which has the classes of {images}; copy it from the archive")
        labels = _labels(annotations, classes)
        for number, path in files:
            if (file := os.path.basename(path)) not in labels:
                raise UserError(f"{annotations} has no line for {file}; copy it again, or remove that image")
            found.append((number, path, labels[file]))
    else:
        for wnid, label in classes.items():
            for below in (folder / "val" / wnid, folder / "val" / wnid / "images"):
                found += [(number, path, label) for number, path in _numbered(below, "val")]
    return [Source(path, f"val/{os.path.basename(path)}", number, label) for number, path, label in sorted(found)]


def _labels(annotations: Path, classes: dict[str, int]) -> dict[str, int]:
    labels = {}
    for number, line in enumerate(annotations.read_text(errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid in classes:
            labels[name] = classes[wnid]
        elif line.strip():
            raise UserError(
                f'{annotations}, line {number}: "{printable(line[:60])}" is not an image and a class of wnids.txt; '
                "copy the file again"
            )
    return labels


def find_or_fetch(root: Path, url: str = URL, size: int = SIZE, md5: str = MD5) -> Path:
    """The folder `tiny-imagenet-200` under `root`; if it is missing, the zip there is unpacked, or downloaded first.

    Raises:
        UserError: the download failed, or the zip is damaged.
    """
    folder, archive = root / FOLDER, root / f"{FOLDER}.zip"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{FOLDER}.lock"):  # a second process waits, then finds the folder
        if folder.is_dir():
            return folder
        if not archive.is_file():
            logger.info("Tiny ImageNet is not in %s; downloading %s", root, url)
            try:
                download(url, archive, size=size, md5=md5)
            except OSError as error:
                raise UserError(
                    f"Tiny ImageNet was not found: there is no {folder}/ and no {archive}, and {error}. "
                    f"Download it yourself (`curl -L -C - -o {archive} {url}`), or point `data.root=` to the "
                    "folder that has it; `data=dead_leaves` needs no download"
                ) from error
        _unpack(archive, folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks all but the unlabelled test images, then renames: if `folder` exists, it is complete."""
    unpacking = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as file:
            members = _checked(file.infolist(), archive)
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=None):
                file.extract(member, unpacking)
        os.rename(unpacking / FOLDER, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{archive} ({archive.stat().st_size:,} bytes) is damaged: {error}; "
            f"remove it to download it again ({SIZE:,} bytes, MD5 {MD5})"
        ) from error
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked into {folder.parent} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def _checked(members: list[zipfile.ZipInfo], archive: Path) -> list[zipfile.ZipInfo]:
    """The members to unpack. UserError before anything is written if this cannot be the official archive.

    Unpacking stops at a member's declared size, so the declared sizes bound the real ones.
    """

    def refused(reason: str) -> UserError:
        return UserError(f"{archive} {reason}; nothing was unpacked; replace it with the official archive")

    if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
        raise refused(f"has more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes, far more than Tiny ImageNet")
    seen: set[str] = set()
    for member in members:
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        shown = name.encode("unicode_escape").decode()[:80]
        if name.startswith("/") or "\\" in name or ":" in name or {"..", "."} & set(name.split("/")):
            raise refused(f"has a file outside its folder, {shown}")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refused(f"has a link or device, {shown}")
        if name in seen:
            raise refused(f"has two files of one name, {shown}")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refused(f"has an encrypted file, or an unusual compression, {shown}")
        seen.add(name)
    wanted = [
        member
        for member in members
        if member.filename.startswith(f"{FOLDER}/") and not member.filename.startswith(f"{FOLDER}/test/")
    ]
    if not wanted:
        raise UserError(f"{archive} has no folder {FOLDER}/; replace it with the official archive")
    return wanted


def _numbered(folder: Path, prefix: str, end: int | None = None) -> list[tuple[int, str]]:
    """Numbers below `end` and paths of the images `<prefix>_<number>.JPEG` of a folder, in order.

    A warning names those of other names; hidden files are ignored. [] if there is no folder.
    """
    if not folder.is_dir():
        return []
    # Strings: Path objects for 100,000 files would take longer than opening the store.
    names = [name for name in os.listdir(folder) if name.endswith(".JPEG") and not name.startswith(".")]
    matches = {name: re.fullmatch(re.escape(prefix) + r"_(0|[1-9][0-9]{0,8})\.JPEG", name) for name in names}
    found = {name: int(match[1]) for name, match in matches.items() if match and (end is None or int(match[1]) < end)}
    if strays := [printable(name) for name in names if name not in found]:
        logger.warning(
            "%s: ignored %d files that are not %s_<number>.JPEG: %s", folder, len(strays), prefix, strays[:5]
        )
    return sorted((number, os.path.join(folder, name)) for name, number in found.items())
