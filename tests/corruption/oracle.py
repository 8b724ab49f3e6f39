"""Blur and erasure of docs/protocol.md in float64, independent of the package, and expected PSNR made with them.

`python tests/corruption/oracle.py` writes the table oracle.csv again.
"""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft, ndimage

TABLE = Path(__file__).with_name("oracle.csv")
ROWS = 96
SIZES = [(64, 64), (64, 64), (32, 32), (48, 80)]

# Images in [0, 1] as functions of row, column and channel, where y and x are the row and column in image sides.
IMAGES: dict[str, Callable[..., np.ndarray]] = {
    "waves": lambda row, column, c, y, x: (
        0.5 + 0.24 * np.sin(2 * np.pi * (2 * x + 3 * y) + c) + 0.24 * np.sin(2 * np.pi * (9 * x - 7 * y) + 2 * c)
    ),
    "chirp": lambda row, column, c, y, x: 0.5 + 0.5 * np.sin(60 * x**2 + 40 * y**2 + c),
    "sawtooth": lambda row, column, c, y, x: (2 * x + 3 * y + c / 3) % 1,
    "checkers": lambda row, column, c, y, x: 0.1 + 0.8 * ((row // 5 + column // 7 + c) % 2),
    "stripes": lambda row, column, c, y, x: 1.0 * ((row + 2 * column + c) % 3 == 0),
    "disc": lambda row, column, c, y, x: 0.05 + 0.9 * (np.hypot(x - 0.5, y - 0.4 - 0.05 * c) < 0.3),
}


def procedural_image(name: str, height: int, width: int) -> np.ndarray:
    """float64 (3, height, width) in [0, 1]."""
    channel, row, column = np.indices((3, height, width))
    return IMAGES[name](row, column, channel, row / height, column / width)


def motion_weight(x: int, y: int, length: float, angle: float) -> float:
    """max(0, 1 − distance) from a pixel to the centred segment, by projection onto it."""
    end = (length / 2 * math.cos(angle), length / 2 * math.sin(angle))
    squared = end[0] ** 2 + end[1] ** 2
    along = 0.0 if squared == 0 else max(-1.0, min(1.0, (x * end[0] + y * end[1]) / squared))
    return max(0.0, 1 - math.dist((x, y), (along * end[0], along * end[1])))


def gaussian_weight(x: int, y: int, sigma: float) -> float:
    return float(x == y == 0) if sigma == 0 else math.exp(-(x * x + y * y) / (2 * sigma * sigma))


def blur(image: np.ndarray, weight: Callable[[int, int], float]) -> np.ndarray:
    """Correlation of an image (3, H, W) with the normalised weights; the border reflects without its edge pixel.

    The kernel is 19 × 19 at 64 pixels; its radius scales with the shorter side and is rounded up.
    """
    radius = math.ceil(9 * min(image.shape[1:]) / 64)
    offsets = range(-radius, radius + 1)
    kernel = np.array([[weight(x, y) for x in offsets] for y in offsets])
    kernel /= kernel.sum()
    return np.stack([ndimage.correlate(channel.astype(np.float64), kernel, mode="mirror") for channel in image])


# Quantisation of luminance and chrominance at quality 50 (ITU-T T.81, annex K).
_LUMA = np.array(
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 18 22 37 56 68 "
    "109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99".split(),
    dtype=float,
).reshape(8, 8)
_CHROMA = np.full((8, 8), 99.0)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def _quantised(plane: np.ndarray, table: np.ndarray, quality: int) -> np.ndarray:
    """A plane in 0 … 255, its 8 × 8 blocks rounded in the cosine domain."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = np.clip((table * scale + 50) // 100, 1, 255)
    rows, columns = (side // 8 for side in plane.shape)
    blocks = plane.reshape(rows, 8, columns, 8).swapaxes(1, 2) - 128
    coefficients = np.rint(fft.dctn(blocks, axes=(2, 3), norm="ortho") / steps) * steps
    return (fft.idctn(coefficients, axes=(2, 3), norm="ortho") + 128).swapaxes(1, 2).reshape(plane.shape).clip(0, 255)


def _doubled(plane: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many samples, each ¾ of the nearest and ¼ of the next."""
    plane = np.moveaxis(plane, axis, 0)
    before, after = (np.take(plane, np.arange(len(plane)) + shift, 0, mode="clip") for shift in (-1, 1))
    pairs = np.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], 1)
    return np.moveaxis(pairs.reshape(-1, *plane.shape[1:]), 0, axis)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Baseline JPEG of an image (3, H, W) in [0, 1], sides multiples of 16, with colour at half resolution."""
    luma, *chroma = np.tensordot(_YCC, np.rint(255 * image), 1) + np.array([0, 128, 128])[:, None, None]
    planes = [_quantised(luma, _LUMA, quality)]
    for plane in chroma:
        halves = plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean((1, 3))
        planes.append(_doubled(_doubled(_quantised(halves, _CHROMA, quality), 0), 1))
    centred = np.stack(planes) - np.array([0, 128, 128])[:, None, None]
    return np.rint(np.tensordot(np.linalg.inv(_YCC), centred, 1).clip(0, 255)) / 255


def rectangle(area: float, aspect: float, place: tuple[float, float], size: tuple[int, int]) -> dict[str, int]:
    """The erased rectangle: its share of the image, height / width, and two numbers in [0, 1) for its position."""
    rows, columns = size
    height = min(rows, round(math.sqrt(area * rows * columns * aspect)))
    width = min(columns, round(math.sqrt(area * rows * columns / aspect)))
    top, left = math.floor(place[0] * (rows - height + 1)), math.floor(place[1] * (columns - width + 1))
    return {"top": top, "left": left, "height": height, "width": width}


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    """Decibels, for images in [0, 1], at most 60."""
    error = np.mean((np.asarray(image, np.float64) - clean) ** 2)
    return 60.0 if error < 1e-6 else float(-10 * np.log10(error))


def expected(row: dict[str, Any]) -> tuple[float, float]:
    """PSNR after blur alone, and after blur and erasure, from the parameters of a row."""
    values = {name: value if name in ("image", "blur") else float(value) for name, value in row.items()}
    clean = procedural_image(values["image"], int(values["image_height"]), int(values["image_width"]))
    if values["blur"] == "motion":
        blurred = blur(clean, lambda x, y: motion_weight(x, y, values["length_px"], values["angle_rad"]))
    else:
        blurred = blur(clean, lambda x, y: gaussian_weight(x, y, values["sigma_px"]))
    top, left, height, width = (int(values[name]) for name in ("top", "left", "height", "width"))
    erased = blurred.copy()
    erased[:, top : top + height, left : left + width] = 0
    return psnr(blurred, clean), psnr(erased, clean)


def table() -> list[dict[str, Any]]:
    """Every image at every size with parameters spread over their ranges; severities 0 and 1 come first."""
    rows = []
    for number in range(ROWS):
        size = SIZES[number // len(IMAGES) % len(SIZES)]
        # Multiples of irrational numbers, modulo 1, fill the unit interval evenly.
        first, second, third, fourth, *place = (number * math.sqrt(prime) % 1 for prime in (2, 3, 5, 7, 11, 13))
        severity = {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}.get(number, first)
        kind, scale = "motion" if fourth < 0.5 else "gaussian", min(size) / 64
        row: dict[str, Any] = {
            "image": list(IMAGES)[number % len(IMAGES)],
            "image_height": size[0],
            "image_width": size[1],
            "blur": kind,
            "length_px": round(14 * severity * scale * (kind == "motion"), 4),
            "angle_rad": round(math.pi * second * (kind == "motion"), 4),
            "sigma_px": round(3 * severity * scale * (kind == "gaussian"), 4),
            **rectangle(0.3 * severity, math.exp(math.log(0.3) + math.log(11) * third), (place[0], place[1]), size),
        }
        row["psnr_blur_only"], row["psnr"] = (f"{value:.3f}" for value in expected(row))
        rows.append(row)
    return rows


if __name__ == "__main__":
    made = table()
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, made[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)
