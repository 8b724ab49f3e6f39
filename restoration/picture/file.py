"""Image files, found and recognised by content. Each is untrusted: every error has a reason of one line."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

MAX_MEGAPIXELS = 30  # Restoring takes up to 0.12 GB for each: this many fit into 8 GB with everything else.

# EPS runs Ghostscript on the file. The others are headers without a decoder.
_EXCLUDED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
# Images that Pillow cannot read, by a part of their first bytes.
_FOREIGN = {
    b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIC", b"\xff\x0a": "JPEG XL", b"JXL \r\n": "JPEG XL",
    b"%!PS": "EPS", b"%PDF": "PDF", b"<svg": "SVG",
}  # fmt: skip
FOREIGN_SUFFIXES = {".heic", ".heif", ".hif", ".jxl", ".eps", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


@cache
def formats(signature: bool = False) -> tuple[str, ...]:
    """Pillow's names of the formats that are read; `signature`: only those that a file's first bytes tell."""
    Image.init()
    return tuple(
        name for name, (_, accept) in Image.OPEN.items() if name not in _EXCLUDED and (accept or not signature)
    )


@cache
def suffixes() -> frozenset[str]:
    """Lower-case suffixes of these formats, with the dot."""
    known = set(formats())
    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in known) | {".mpo"}


def printable(name: str) -> str:
    """The name with escapes for bytes that are not UTF-8 and for control characters, so that it fits on a line."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_images(root: Path, foreign: bool = False) -> tuple[list[str], str]:
    """Paths of the image files under a folder, relative to it, with forward slashes; hidden ones are left out.

    A file is an image by a suffix of `suffixes()` (so that a damaged one is found), or else by its first bytes. Folders
    that are links are not entered.

    Also a text with the number of other files of each suffix, "" if there are none.
    """
    names, others = [], Counter[str]()

    def unopened(error: OSError) -> None:
        others[f"folder that cannot be opened ({printable(str(error.filename))})"] += 1

    for folder, below, files in os.walk(root, onerror=unopened):
        below[:] = [name for name in below if not name.startswith(".")]  # among them the store
        others["linked folder"] += sum(os.path.islink(os.path.join(folder, name)) for name in below)
        for path in (Path(folder, name) for name in files if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in suffixes() or (foreign if suffix in FOREIGN_SUFFIXES else _has_signature(path)):
                names.append(path.relative_to(root).as_posix())
            else:
                others[printable(suffix) or "without a suffix"] += 1
    return names, ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()) if count)


def _has_signature(path: Path) -> bool:
    try:
        with opened(path, float("inf"), formats(signature=True)):
            return True
    except ValueError:
        return False


@contextmanager
def opened(
    path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, known: tuple[str, ...] | None = None, shrink: int = 0
) -> Iterator[Image.Image]:
    """Opens an image file; pixels are not decoded yet.

    Args:
        path: of a regular file.
        max_megapixels: a larger image is refused before it is decoded.
        known: formats to try; None: all.
        shrink: a JPEG whose short side is above 8 times this is decoded at reduced size.

    Raises:
        ValueError: with a reason of one line, for every error of the file and its decoder, also inside the `with`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind != stat.S_IFREG:
            raise ValueError(f"not a regular file but {_KINDS.get(kind, 'something else')}")
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            Image.MAX_IMAGE_PIXELS = None
            with Image.open(file, formats=known or formats()) as image:
                if shrink and min(image.size) > 8 * shrink:
                    image.draft(None, (4 * shrink, 4 * shrink))
                check_size(image, max_megapixels, adjustable=not shrink)
                if max_megapixels < float("inf"):  # Pillow refuses parts of a file from twice its own limit.
                    Image.MAX_IMAGE_PIXELS = max(1, int(max_megapixels * 5e5))
                yield image
    except Exception as error:  # Decoders raise almost any type for damaged files.
        raise ValueError(_reason(error, path)) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_size(image: Image.Image, max_megapixels: float, adjustable: bool = True) -> None:
    """ValueError if the image is larger; `adjustable`: the user can raise the limit."""
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        limit, more = f"the {max_megapixels:g} that training reads", ""
        if adjustable:
            limit, more = f"max_megapixels={max_megapixels:g}", "raise it if there is memory, or "
        raise ValueError(
            f"{image.width} x {image.height} pixels are {megapixels:.6g} megapixels, above {limit}; "
            f"{more}make the image smaller"
        )


def is_out_of_memory(error: Exception) -> bool:
    """On any device: torch has an error class for GPUs only."""
    signs = ("you tried to allocate", "bad_alloc")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)


def _reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            head = file.read(512)
        kind = next(
            (name for part, name in _FOREIGN.items() if part in head[:16] or (name == "SVG" and part in head)), ""
        )
        return (f"{kind}: convert it to PNG or JPEG first" if kind else "not an image, or damaged") if head else "empty"
    if isinstance(error, Image.DecompressionBombError):
        return "a part of it is above the limit of megapixels"
    if is_out_of_memory(error):
        return "out of memory while decoding; make the image smaller"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = printable(text.partition("\n")[0].encode("utf-8", "backslashreplace").decode())
    return (
        text if text and isinstance(error, OSError | ValueError | SyntaxError) else f"damaged ({type(error).__name__})"
    )
