# ruff: noqa: E501
"""Files of every kind that people, cameras and attackers put into a folder of images, with what must become of each."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from image_failures import failures, special
from image_files import COLOUR, DEEP, GREY, RGB, SIDE, Expected, Kinds, png, saved
from PIL import Image, ImageCms

# Older ones cannot read uncompressed YCbCr TIFF.
PILLOW_13 = int(PIL.__version__.partition(".")[0]) >= 13


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged, so that a reader that ignores it is easily seen."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")


def linear_grey_profile() -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0\0\0\0\0"
    tags = struct.pack(">I", 2) + b"wtpt" + struct.pack(">II", 156, 20) + b"kTRC" + struct.pack(">II", 176, 12)
    header = struct.pack(">I4sI", 188, b"lcms", 0x02400000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + tags + white + curve


def formats() -> Kinds:
    """Each format that Pillow reads and that can be written here."""
    kinds: Kinds = {}
    for suffix, kind in (
        ("png", "PNG"), ("apng", "PNG"), ("bmp", "BMP"), ("dib", "DIB"), ("tif", "TIFF"), ("tiff", "TIFF"), ("ppm", "PPM"),
        ("pnm", "PPM"), ("im", "IM"), ("pcx", "PCX"), ("qoi", "QOI"), ("sgi", "SGI"), ("tga", "TGA"), ("dds", "DDS"),
        ("ico", "ICO"),
    ):  # fmt: skip
        kinds[f"format.{suffix}"] = saved(COLOUR, kind), RGB
    for suffix, kind in (
        ("jpg", "JPEG"), ("jpeg", "JPEG"), ("jfif", "JPEG"), ("jpe", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF"),
        ("gif", "GIF"), ("jp2", "JPEG2000"), ("j2k", "JPEG2000"), ("mpo", "MPO"), ("blp", "BLP"),
    ):  # fmt: skip
        image = COLOUR.quantize(64) if kind in ("BLP",) else COLOUR
        kinds[f"format.{suffix}"] = saved(image, kind), None
    icon = b"icp4" + struct.pack(">I", 8 + len(saved(COLOUR, "PNG"))) + saved(COLOUR, "PNG")
    kinds["format.icns"] = b"icns" + struct.pack(">I", 8 + len(icon)) + icon, RGB
    kinds["format.pgm"] = saved(GREY, "PPM"), np.asarray(GREY)
    bits = GREY.convert("1")
    for suffix, kind in (("pbm", "PPM"), ("msp", "MSP"), ("xbm", "XBM")):
        kinds[f"format.{suffix}"] = saved(bits, kind), np.asarray(bits.convert("L")) if suffix != "xbm" else None
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        kinds[f"{compression}.tif"] = (
            saved(COLOUR, "TIFF", compression=compression),
            None if compression == "jpeg" else RGB,
        )
    sun = struct.pack(">8I", 0x59A66A95, SIDE, SIDE, 24, 768, 1, 0, 0) + RGB[..., ::-1].tobytes()
    kinds["format.ras"] = sun, RGB
    xpm = '/* XPM */\nstatic char *a[] = {\n"2 2 2 1",\n"a c #FF0000",\n"b c #0000FF",\n"ab",\n"ba"\n};\n'
    kinds["format.xpm"] = xpm.encode(), np.array([[[255, 0, 0], [0, 0, 255]], [[0, 0, 255], [255, 0, 0]]], np.uint8)
    cards = ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", f"NAXIS1  = {SIDE}", f"NAXIS2  = {SIDE}", "END")
    fits = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    kinds["format.fits"] = fits + np.asarray(GREY)[::-1].tobytes().ljust(2880, b"\0"), np.asarray(GREY)
    psd = (
        b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, SIDE, SIDE, 8, 3) + struct.pack(">III", 0, 0, 0) + struct.pack(">H", 0)
    )
    kinds["format.psd"] = psd + RGB.transpose(2, 0, 1).tobytes(), RGB
    kinds["format.cur"] = b"\0\0\2" + saved(COLOUR, "ICO", bitmap_format="bmp")[3:], None
    dcx = struct.pack("<4I", 987654321, 16, 0, 0)
    kinds["format.dcx"] = dcx + saved(COLOUR, "PCX"), RGB
    return kinds


def modes() -> Kinds:
    """Colour models, depths, transparency and colour profiles, with what a viewer shows."""
    grey = np.asarray(GREY)
    alpha = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    floats = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    palette = COLOUR.quantize(16)
    rgb16 = RGB.astype(np.uint16) * 257
    first = tuple(int(value) for value in rgb16[0, 0])
    clear = np.where((RGB == RGB[0, 0]).all(-1), 0, 255).astype(np.uint8)
    deep_clear = np.where(DEEP == DEEP[0, 0], 0, 255).astype(np.uint8)
    swapped = np.ascontiguousarray(RGB[..., ::-1])
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    outside = "its values are outside"
    return {
        "grey.png": (saved(GREY, "PNG"), grey),
        "grey.jpg": (saved(GREY, "JPEG"), None),
        "bits.png": (saved(GREY.convert("1"), "PNG"), np.asarray(GREY.convert("1").convert("L"))),
        "palette.png": (saved(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "palette_clear.png": (saved(palette, "PNG", transparency=bytes(range(0, 160, 10))), None),
        "clear_colour.png": (png(8, 2, RGB, ((b"tRNS", struct.pack(">3H", *RGB[0, 0])),)), np.dstack([RGB, clear])),
        "grey_alpha.png": (saved(Image.fromarray(np.dstack([grey, alpha])), "PNG"), np.dstack([grey, alpha])),
        "alpha.png": (saved(Image.fromarray(np.dstack([RGB, alpha])), "PNG"), np.dstack([RGB, alpha])),
        "alpha.webp": (saved(Image.fromarray(np.dstack([RGB, alpha])), "WEBP", lossless=True, exact=True), np.dstack([RGB, alpha])),
        "alpha.tif": (saved(Image.fromarray(np.dstack([RGB, alpha])), "TIFF"), np.dstack([RGB, alpha])),
        "deep.png": (saved(Image.fromarray(DEEP), "PNG"), DEEP),
        "deep.tif": (saved(Image.fromarray(DEEP), "TIFF"), DEEP),
        "deep.pgm": (b"P5 16 16 65535\n" + DEEP.astype(">u2").tobytes(), DEEP),
        "deep_clear.png": (png(16, 0, DEEP, ((b"tRNS", struct.pack(">H", DEEP[0, 0])),)), np.dstack([(DEEP / 257.0).round().astype(np.uint8), deep_clear])),
        "deep_colour.png": (png(16, 2, rgb16), RGB),
        "deep_colour_clear.png": (png(16, 2, rgb16, ((b"tRNS", struct.pack(">3H", *first)),)), np.dstack([RGB, clear])),
        "deep_alpha.png": (png(16, 6, np.dstack([rgb16, alpha.astype(np.uint16) * 257])), np.dstack([RGB, alpha])),
        "deep_grey_alpha.png": (png(16, 4, np.dstack([grey, alpha]).astype(np.uint16) * 257), np.dstack([grey, grey, grey, alpha])),
        "deep_colour.tif": (tiff(rgb16), RGB),
        "float.tif": (saved(Image.fromarray(floats), "TIFF"), (floats.astype(np.float64) * 65535).round().astype(np.uint16)),
        "float.pfm": (saved(Image.fromarray(floats), "PPM"), (floats.astype(np.float64) * 65535).round().astype(np.uint16)),
        "float_255.tif": (saved(Image.fromarray(floats * 255), "TIFF"), outside),
        "float_nan.tif": (saved(Image.fromarray(np.full_like(floats, np.nan)), "TIFF"), outside),
        "float_below.tif": (saved(Image.fromarray(floats - 0.5), "TIFF"), outside),
        "integers.tif": (saved(Image.fromarray(np.full((SIDE, SIDE), 70_000, np.int32)), "TIFF"), outside),
        "cmyk.tif": (saved(COLOUR.convert("CMYK"), "TIFF"), np.asarray(COLOUR.convert("CMYK").convert("RGB"))),
        "cmyk.jpg": (saved(Image.new("CMYK", (16, 16), (0, 255, 255, 55)), "JPEG"), (200, 0, 0)),
        "ycbcr.tif": (saved(COLOUR.convert("YCbCr"), "TIFF"), None if PILLOW_13 else "truncated"),
        "lab.tif": (saved(Image.new("LAB", (16, 16), (255, 128, 128)), "TIFF"), None),
        "progressive.jpg": (saved(COLOUR, "JPEG", progressive=True), None),
        "profile.png": (saved(COLOUR, "PNG", icc_profile=swapped_profile()), swapped),
        "profile_alpha.png": (saved(Image.fromarray(np.dstack([RGB, alpha])), "PNG", icc_profile=swapped_profile()), np.dstack([swapped, alpha])),
        "profile_palette.png": (saved(palette, "PNG", icc_profile=swapped_profile()), np.asarray(palette.convert("RGB"))[..., ::-1]),
        "profile.jpg": (saved(Image.new("RGB", (16, 16), (200, 30, 30)), "JPEG", icc_profile=swapped_profile()), (30, 30, 200)),
        "profile.tif": (saved(COLOUR, "TIFF", icc_profile=swapped_profile()), swapped),
        "profile.webp": (saved(COLOUR, "WEBP", lossless=True, icc_profile=swapped_profile()), swapped),
        "profile_srgb.png": (saved(COLOUR, "PNG", icc_profile=srgb), RGB),
        "profile_grey.png": (saved(Image.new("L", (16, 16), 55), "PNG", icc_profile=linear_grey_profile()), (128, 128, 128)),
        "profile_deep.png": (saved(Image.fromarray(DEEP), "PNG", icc_profile=linear_grey_profile()), DEEP),
        "profile_damaged.png": (saved(COLOUR, "PNG", icc_profile=b"no profile"), RGB),
        "profile_of_another_space.png": (saved(COLOUR, "PNG", icc_profile=linear_grey_profile()), RGB),
    }  # fmt: skip


def tiff(pixels: np.ndarray) -> bytes:
    """An uncompressed 16-bit colour TIFF, which Pillow does not write."""
    tags = [
        (256, 3, 1, SIDE),
        (257, 3, 1, SIDE),
        (258, 3, 3, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
    ]
    tags += [(278, 3, 1, SIDE), (279, 4, 1, pixels.nbytes)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 14 + pixels.nbytes) + struct.pack("<3H", 16, 16, 16)
    return head + pixels.astype("<u2").tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


def forms() -> Kinds:
    """Orientations, animations, pages, sizes, and suffixes that say nothing or something wrong."""
    half = Image.new("RGB", (SIDE, SIDE))
    turned = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: np.rot90(RGB, -1)}
    turned |= {7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB)}
    kinds: Kinds = {}
    for orientation, expected in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        kinds[f"turned_{orientation}.png"] = saved(COLOUR, "PNG", exif=exif), np.ascontiguousarray(expected)
    several = {"save_all": True, "append_images": [half, half]}
    kinds |= {
        "damaged_exif.jpg": (saved(COLOUR, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish"), None),
        "animated.gif": (saved(COLOUR.quantize(64), "GIF", **several), None),
        "animated.png": (saved(COLOUR, "PNG", **several), RGB),
        "animated.webp": (saved(COLOUR, "WEBP", lossless=True, **several), None),
        "animated.avif": (saved(COLOUR, "AVIF", **several), None),
        "pages.tif": (saved(COLOUR, "TIFF", **several), RGB),
        "one_pixel.png": (saved(COLOUR.crop((0, 0, 1, 1)), "PNG"), RGB[:1, :1]),
        "row.png": (saved(COLOUR.resize((700, 1), 0), "PNG"), None),
        "column.png": (saved(COLOUR.resize((1, 700), 0), "PNG"), None),
        "png.dat": (saved(COLOUR, "PNG"), RGB),
        "webp_named.jpg": (saved(COLOUR, "WEBP", lossless=True), RGB),
        "jpeg_named.png": (saved(COLOUR, "JPEG"), None),
        "no_suffix": (saved(COLOUR, "PNG"), RGB),
        "CAPITALS.PNG": (saved(COLOUR, "PNG"), RGB),
        "name with spaces, ünïcode = 100%.png": (saved(COLOUR, "PNG"), RGB),
        "-dash.png": (saved(COLOUR, "PNG"), RGB),
        "new\nline.png": (saved(COLOUR, "PNG"), RGB),
        "escape\x1b[31m.png": (saved(COLOUR, "PNG"), RGB),
        os.fsdecode(b"caf\xe9.png"): (saved(COLOUR, "PNG"), RGB),
        "l" * 245 + ".png": (saved(COLOUR, "PNG"), RGB),
        "folder.png/inside.png": (saved(COLOUR, "PNG"), RGB),
        "folder.jpg": (saved(COLOUR, "PNG"), RGB),  # folder.png is taken by the folder
    }
    return kinds


KINDS: dict[str, Callable[[], Kinds]] = {"formats": formats, "modes": modes, "forms": forms, "failures": failures}


def make(folder: Path) -> dict[str, Expected]:
    """Writes every kind; the expectation for each name: "" for a file that is left out."""
    expected: dict[str, Expected] = {}
    for group in KINDS.values():
        for name, (content, result) in group().items():
            assert name not in expected
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_bytes(content)
            expected[name] = result
    return expected | special(folder)
