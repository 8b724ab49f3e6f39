"""Pixels as a viewer shows them: upright, in sRGB, in their range. Training and restoring share these rules."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageCms, ImageOps


def shown(image: Image.Image) -> Image.Image:
    """8-bit RGB by the rules of `decode`, on white: the colours under transparency are arbitrary."""
    image.load()
    image = upright(image)
    if image.mode.startswith(("I", "F")):
        values, alpha = levels(image)
        rgb = Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    else:
        rgb, alpha, _ = colours(image)
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def has_more(image: Image.Image) -> bool:
    """More frames or pages; a PSD's layers and an MPO's previews do not count."""
    with suppress(Exception):  # a damaged second frame
        return image.format not in ("PSD", "MPO") and bool(getattr(image, "is_animated", False))
    return False


def upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # Damaged EXIF is no reason to lose an image.
        return ImageOps.exif_transpose(image)
    return image


def levels(image: Image.Image) -> tuple[np.ndarray, Image.Image | None]:
    """float32 (H, W) in [0, 1] of integers (16 bits) or floats, and alpha if one level is transparent."""
    pixels = np.asarray(image)
    values = pixels.astype(np.float32)
    if image.mode != "F":
        values /= 65535
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("its values are outside [0, 1] (floats) or 16 bits (integers)")
    clear = image.info.get("transparency")
    alpha = Image.fromarray(np.where(pixels == clear, 0, 255).astype(np.uint8)) if isinstance(clear, int) else None
    return values, alpha


def colours(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bool]:
    """RGB in sRGB, alpha, and whether the image is grey."""
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:  # of a 16-bit PNG, read as 8 bits
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = image.getchannel("A")
    profile = image.info.get("icc_profile")
    if image.mode != "CMYK":
        image = image.convert("L" if grey else "RGB")
    return (_to_srgb(image, profile) if profile else image).convert("RGB"), alpha, grey


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts L, RGB or CMYK; a profile that is damaged, of another colour space or of sRGB changes nothing."""
    with suppress(Exception):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() == {"L": "GRAY"}.get(image.mode, image.mode):
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
            if image.mode == "CMYK" or not _changes_nothing(transform, image.mode):
                return ImageCms.applyTransform(image, transform) or image
    return image


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """The transform moves no colour by more than two levels, as those between versions of sRGB: pixels stay exact."""
    steps = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    probe = Image.fromarray(np.stack(np.meshgrid(*[steps] * 3), -1).reshape(1, -1, 3) if mode == "RGB" else steps[None])
    moved = np.asarray(ImageCms.applyTransform(probe, transform), np.int64) - np.asarray(probe.convert("RGB"))
    return bool(np.abs(moved).max() <= 2)
