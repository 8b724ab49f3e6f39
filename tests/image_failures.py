# ruff: noqa: E501
"""Files that cannot be restored, by name, with what must be said."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from image_files import COLOUR, RGB, Expected, Kinds, huge_png, png, saved


def failures() -> Kinds:
    """Damaged files, other files with an image's name, and formats that cannot be read: a reason for each."""
    whole, jpeg = saved(COLOUR, "PNG"), saved(COLOUR.resize((400, 400)), "JPEG", quality=95)
    huge = "megapixels, above "
    bomb = b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000))
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
    return {
        "empty.png": (b"", "empty"),
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut_header.jpg": (jpeg[:100], "."),
        "cut.png": (whole[: len(whole) // 2], "."),
        "cut.tif": (saved(COLOUR, "TIFF")[:300], "."),
        "cut.webp": (saved(COLOUR, "WEBP")[:40], "."),
        "cut.gif": (saved(COLOUR.quantize(9), "GIF")[:60], "."),
        "cut.bmp": (saved(COLOUR, "BMP")[:200], "."),
        "signature.png": (whole[:8], "."),
        "checksum.png": (whole[:20] + b"x" + whole[21:], "."),
        "text.png": (b"not an image\n", "not an image, or damaged"),
        "page.jpg": (b"<!DOCTYPE html><html>404", "not an image, or damaged"),
        "zeros.tif": (bytes(5000), "not an image, or damaged"),
        "noise.webp": (np.random.default_rng(1).bytes(5000), "not an image, or damaged"),
        "drawing.png": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG: convert it"),
        "page.tif": (b"%PDF-1.7\n", "PDF: convert it"),
        "photo.heic": (heic, "HEIC: convert it"),
        "heic_named.jpg": (heic, "HEIC: convert it"),
        "photo.jxl": (b"\xff\x0a" + bytes(60), "JPEG XL: convert it"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "EPS: convert it"),
        "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "EPS: convert it"),
        "huge.png": (huge_png(60_000, 60_000), huge),
        "huge_square.png": (huge_png(20_001, 10_000), huge),
        "huge.bmp": (b"BM" + struct.pack("<IIIIiiHHI", 60, 0, 54, 40, 50_000, 50_000, 1, 24, 0) + bytes(40), huge),
        "huge.gif": (b"GIF89a" + struct.pack("<HH3B", 65_000, 65_000, 0, 0, 0) + b"," + struct.pack("<4H", 0, 0, 65_000, 65_000) + b"\0\2\0", huge),
        "huge.tga": (struct.pack("<3B5x4H2B", 0, 0, 2, 0, 0, 65_000, 65_000, 24, 0) + bytes(60), huge),
        "huge.ppm": (b"P6 90000 90000 255\n" + bytes(60), huge),
        "text_bomb.png": (png(8, 2, RGB, (bomb,)), "."),
        "no_pixels.ppm": (b"P6 0 0 255\n", "."),
        "stub.grib": (b"GRIB\0\0\0\1" + bytes(40), ""),  # a format without pixels: left out
    }  # fmt: skip


def special(folder: Path) -> dict[str, Expected]:
    """Links and files that are not regular, made in place."""
    (folder / "good.png").write_bytes(saved(COLOUR, "PNG"))
    os.symlink("good.png", folder / "link.png")
    os.symlink("nowhere.png", folder / "broken_link.png")
    os.symlink("cycle.png", folder / "cycle.png")
    os.symlink(".", folder / "endless.png")
    os.symlink("/dev/zero", folder / "zero.png")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    here = os.getcwd()
    os.chdir(folder)  # A socket's path has at most 108 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
    finally:
        os.chdir(here)
    (folder / ".hidden.png").write_bytes(b"")
    return {
        "good.png": RGB, "link.png": RGB, "broken_link.png": "No such file", "cycle.png": "symbolic links", "endless.png": "",
        "zero.png": "a device", "pipe.png": "a named pipe", "pipe": "", "socket.png": "a socket", ".hidden.png": "",
    }  # fmt: skip
