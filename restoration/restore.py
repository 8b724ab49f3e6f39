"""Restore a picture or a folder of pictures with a trained checkpoint.

python -m restoration.restore checkpoint=outputs/…/checkpoints/best.ckpt input=photos/ output=restored/
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from restoration.data.decode import SUFFIXES, find_pictures
from restoration.errors import UserError, whole_number
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.run.config import allow_any_key, changed, check_keys, command, reference_config, usable_device
from restoration.tiling import restore_tiled

__all__ = ["Picture", "Task", "plan", "read", "restore_pictures", "write"]

# Four times the 64 px that the default experiments train at: large enough for a tile to hold what it depicts, and small
# enough for laptops (a tile's activations, and normalisation statistics that still resemble training's).
AUTOMATIC_TILE = 256


@dataclass
class Picture:
    """A decoded picture, and what it takes to write it back in kind.

    Attributes:
        image: float32 (3, H, W) in [0, 1]; a grey picture repeats its channel.
        grey: the file has one colour channel.
        deep: the file has 16 bits (or floats) a channel; kept for grey, while Pillow reads colour as 8 bits.
        alpha: uint8 (H, W), or None.
    """

    image: Tensor
    grey: bool = False
    deep: bool = False
    alpha: np.ndarray | None = None


@dataclass(frozen=True)
class Task:
    """One picture to restore: where it is, its name (which keys its noise) and where the result goes."""

    source: Path
    name: str
    target: Path


def read(path: Path) -> Picture:
    """Decodes a picture, turned upright by its EXIF orientation; of an animation, the first frame.

    Raises:
        Exception: whatever the decoder makes of a damaged file; ValueError for pixel values without a known range.
    """
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        image.load()
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float32) / (1 if image.mode == "F" else 65535)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("its values are outside [0, 1] (floats) or 16 bits (integers)")
        return Picture(torch.from_numpy(values).expand(3, -1, -1).clone(), grey=True, deep=True)
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    pixels = np.array(image.convert("RGB"))
    return Picture(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, grey=grey, alpha=alpha)


def write(path: Path, picture: Picture) -> None:
    """Encodes a picture as PNG; the file appears complete or not at all."""
    highest, dtype = (65535, np.uint16) if picture.deep else (255, np.uint8)
    image = picture.image.mean(dim=0) if picture.grey else picture.image.permute(1, 2, 0)
    pixels = (image.clamp(0, 1).double() * highest).round().numpy().astype(dtype)
    encoded = Image.fromarray(pixels)
    if picture.alpha is not None:
        encoded.putalpha(Image.fromarray(picture.alpha))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    encoded.save(partial, format="PNG")
    os.replace(partial, path)


def plan(source: Path, output: Path, overwrite: bool = False) -> list[Task]:
    """What is to be restored and where to, checked before any work is done.

    Two pictures that differ in their suffix only keep it: `a.jpg` and `a.webp` become `a.jpg.png` and `a.webp.png`.

    Raises:
        UserError: no input, no pictures, output inside the input or with another format's suffix, or files that would
            be overwritten.
    """
    others = ""
    if not source.exists():
        raise UserError(f"no input at {source}; input= takes a picture or a folder of pictures")
    if source.is_file():
        if output.suffix.lower() in SUFFIXES - {".png"} and not output.is_dir():
            raise UserError(
                f"output {output}: pictures are written as PNG; give {output.with_suffix('.png')}, or a folder"
            )
        target = output if output.suffix.lower() == ".png" else output / f"{source.stem}.png"
        if target.resolve() == source.resolve():
            raise UserError(f"{target} would replace the input; give another output=")
        tasks = [Task(source, source.name, target)]
    else:
        if output.resolve().is_relative_to(source.resolve()):
            raise UserError(f"output {output} lies inside the input {source}; give a folder outside it")
        names, others = find_pictures(source)
        if not names:
            known = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise UserError(f"no pictures in {source} ({known}){f'; it has {others}' if others else ''}")
        found = sorted(map(Path, names))
        stems = Counter(path.with_suffix("") for path in found)
        tasks = [
            Task(
                source / path,
                path.as_posix(),
                output / (f"{path}.png" if stems[path.with_suffix("")] > 1 else path.with_suffix(".png")),
            )
            for path in found
        ]
    existing = [task.target for task in tasks if task.target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UserError(f"already there: {existing[0]}{more}; add overwrite=true, or give another output=")
    if others:
        print(f"left out files of other kinds: {others}", file=sys.stderr)
    return tasks


def _batches(
    tasks: list[Task], limit: int, tile: int, failures: dict[str, str]
) -> Iterator[list[tuple[Task, Picture]]]:
    """Readable pictures in groups of one size; one that will be tiled stands alone."""
    group: list[tuple[Task, Picture]] = []
    for task in tasks:
        try:
            picture = read(task.source)
        except Exception as error:  # Decoders fail in many ways, and one bad file must not stop a folder.
            failures[task.name] = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        full = len(group) == limit or max(picture.image.shape) > tile
        if group and (full or group[0][1].image.shape != picture.image.shape):
            yield group
            group = []
        group.append((task, picture))
    if group:
        yield group


def restore_pictures(
    restorer: Restorer,
    tasks: list[Task],
    nfe: int | None = None,
    seed: int = 0,
    tile: int = AUTOMATIC_TILE,
    overlap: int = AUTOMATIC_TILE // 4,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Restores every picture that can be read.

    A picture's noise depends on the seed and its name alone, not on what else is in the folder.

    Args:
        restorer: on the device to work on.
        nfe, seed, tile, overlap, batch_size: see conf/restore.yaml; sizes in pixels.

    Returns:
        the names of the pictures that failed, and why.
    """
    device = next(restorer.parameters()).device
    failures: dict[str, str] = {}
    bar = progress.add_task("restoring", total=len(tasks)) if progress else None
    for group in _batches(tasks, batch_size, tile, failures):
        degraded = torch.stack([picture.image for _, picture in group]).to(device)
        keys = torch.stack([fold(seed, "sampling", 0, task.name) for task, _ in group]).to(device)
        if max(degraded.shape[-2:]) > tile:
            restored = restore_tiled(restorer, degraded, keys, nfe, tile, overlap, batch_size)
        else:
            restored = restorer.restore(degraded, keys, nfe)
        for (task, picture), image in zip(group, restored.cpu(), strict=True):
            try:
                write(task.target, Picture(image, picture.grey, picture.deep, picture.alpha))
            except OSError as error:
                failures[task.name] = f"cannot write {task.target}: {error.strerror or error}"
        if progress and bar is not None:
            progress.update(bar, advance=len(group))
    if progress and bar is not None:
        progress.update(bar, completed=len(tasks))
    return failures


def _whole(config: DictConfig, key: str, default: int | None, least: int) -> int | None:
    return default if config[key] is None else whole_number(key, config[key], least)


@hydra.main(version_base="1.3", config_path="../conf", config_name="restore")
@command
def main(config: DictConfig) -> None:
    check_keys(config, reference_config())
    for key, example in (("checkpoint", "outputs/…/checkpoints/best.ckpt"), ("input", "photos/"), ("output", "new/")):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise UserError(f"{key}= is missing; for example {key}={example}")
    nfe = _whole(config, "nfe", None, 1)
    seed = _whole(config, "seed", 0, 0)
    batch_size = _whole(config, "batch_size", 8, 1)
    tile = _whole(config, "tile", AUTOMATIC_TILE, 1)
    assert seed is not None and batch_size is not None and tile is not None
    overlap = _whole(config, "overlap", tile // 4, 0)
    assert overlap is not None
    if 2 * overlap > tile:
        raise UserError(f"overlap={overlap} must be at most half of tile={tile}")

    tasks = plan(Path(str(config.input)), Path(str(config.output)), config.overwrite)
    restorer, trained = Restorer.load_with_config(str(config.checkpoint), usable_device(str(config.device)))
    restorer.sampler = instantiate(changed(trained["sampler"], config.sampler, "sampler"))
    begin = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        try:
            failures = restore_pictures(restorer, tasks, nfe, seed, tile, overlap, batch_size, progress)
        except torch.OutOfMemoryError as error:
            raise UserError("out of memory; use smaller tiles, or fewer at once: tile=128 batch_size=1") from error
    for name, reason in failures.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    done = len(tasks) - len(failures)
    print(f"restored {done} of {len(tasks)} pictures into {config.output} in {time.monotonic() - begin:.1f} s")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    sys.argv[1:] = allow_any_key(sys.argv[1:])
    main()
