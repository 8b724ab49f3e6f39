"""Decoding of image files to RGB squares of one size, on all cores."""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from restoration.picture import opened, shown

MAX_MEGAPIXELS = 200  # of one file, after a JPEG's reduction; decoding takes up to 10 MB for each
CHUNK = 128  # images per task: long enough to hide the cost of a task, short enough for a smooth progress bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """An image file; the name stands for it in messages and in the fingerprint of the store."""

    path: Path | str
    name: str
    index: int
    label: int | None = None


def read_image(path: Path | str, size: int) -> np.ndarray:
    """Decodes a file to RGB and resizes the square in its centre: uint8 (size, size, 3).

    If the short side is a multiple of `size`, boxes of pixels are averaged; otherwise the square is resampled by an
    antialiased bicubic filter. JPEGs larger than 8 times the size are decoded at reduced resolution first.

    Raises:
        ValueError: with a reason of one line, for a damaged file or one above `MAX_MEGAPIXELS`.
    """
    with opened(path, MAX_MEGAPIXELS, shrink=size) as image:
        image = shown(image)
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        if side % size == 0:
            image = image.reduce(side // size, (int(left), int(top), int(left) + side, int(top) + side))
        else:
            centre = (left, top, left + side, top + side)
            image = image.resize((size, size), Image.Resampling.BICUBIC, centre, reducing_gap=3.0)
    return np.asarray(image)


def cores() -> int:
    """Number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel(task: Callable, calls: list[tuple]) -> Iterator[Any]:
    """Yields task(*call) for each call, in order, from one process for each core."""
    workers = min(cores(), len(calls))
    if workers <= 1:
        yield from starmap(task, calls)
        return
    # Forked workers start at once and need no importable __main__; forking is safe on Linux only.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    # One thread each: all cores are in use, and a thread pool used before the fork would hang after it.
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(task, *zip(*calls, strict=True))


def decode(target: Path, sources: list[Source], size: int) -> dict[int, str]:
    """Decodes N sources into the new file `target`, a `.npy` of uint8 (N, size, size, 3).

    Returns:
        The reason for each row that could not be decoded; its pixels are black.
    """
    shape = (len(sources), size, size, 3)
    offset = np.lib.format.open_memmap(target, "w+", np.uint8, shape).offset  # a sparse file
    chunk = max(1, min(CHUNK, len(sources) // (4 * cores())))
    starts = range(0, len(sources), chunk)
    calls = [
        (target, offset + start * size * size * 3, [source.path for source in sources[start : start + chunk]], size)
        for start in starts
    ]
    failures: dict[int, str] = {}
    logger.info("decoding %d images at %d px with %d processes, once", len(sources), size, cores())
    with tqdm(total=len(sources), desc="decoding images", unit="image", disable=None) as bar:
        for start, failed in zip(starts, parallel(_decode_chunk, calls), strict=True):
            failures |= {start + row: reason for row, reason in failed.items()}
            bar.update(min(chunk, len(sources) - start))
    return failures


def _decode_chunk(target: Path, offset: int, paths: list[Path | str], size: int) -> dict[int, str]:
    pixels = np.zeros((len(paths), size, size, 3), np.uint8)
    failures = {}
    for row, path in enumerate(paths):
        try:
            pixels[row] = read_image(path, size)
        except ValueError as error:
            failures[row] = str(error)
    # Not memory-mapped: mapped pages would count as resident in every worker.
    with open(target, "r+b") as file:
        file.seek(offset)
        file.write(pixels.tobytes())
    return failures
