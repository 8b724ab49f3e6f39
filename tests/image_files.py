"""Parts of image files, written by hand or by Pillow."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

SIDE = 16
RGB = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
COLOUR = Image.fromarray(RGB)
GREY = COLOUR.convert("L")
DEEP = (np.asarray(GREY).astype(np.uint16) << 8) + np.arange(SIDE, dtype=np.uint16)
# Its result: what Pillow decodes (exact), an array, a colour, None where only the form counts, or a reason.
Expected = np.ndarray | tuple[int, int, int] | str | None
Kinds = dict[str, tuple[bytes, Expected]]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(depth: int, colour: int, rows: np.ndarray, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG by hand, of kinds that Pillow does not write. rows: (H, W, channels) or (H, bytes)."""
    raw = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(tag: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))


def huge_png(width: int, height: int) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")
