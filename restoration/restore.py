"""Restore an image or a folder of images with a trained checkpoint.

python -m restoration.restore checkpoint=outputs/…/checkpoints/best.ckpt input=photos/ output=restored/
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from restoration.data.decode import SUFFIXES, find_images
from restoration.errors import UserError, whole_number
from restoration.flow.tiling import Tiles
from restoration.keyed import fold
from restoration.picture import Picture, read, write
from restoration.restorer import Restorer
from restoration.run.command import hydra_command
from restoration.run.hardware import usable_device
from restoration.run.keys import changed


@dataclass(frozen=True)
class Task:
    """One image to restore: its file, its name (which keys its noise) and the file of the result."""

    source: Path
    name: str
    target: Path


def plan(source: Path, output: Path, overwrite: bool = False) -> list[Task]:
    """The images to restore and where the results go, checked before any work is done.

    Two files that differ in their suffix only keep it: `a.jpg` and `a.webp` become `a.jpg.png` and `a.webp.png`.

    Raises:
        UserError: no input, no images, output inside the input or with another format's suffix, or files that would
            be overwritten.
    """
    others = ""
    if not source.exists():
        raise UserError(f"no input at {source}; input= takes an image or a folder of images")
    if source.is_file():
        if output.suffix.lower() in SUFFIXES - {".png"} and not output.is_dir():
            raise UserError(
                f"output {output}: results are written as PNG; give {output.with_suffix('.png')}, or a folder"
            )
        target = output if output.suffix.lower() == ".png" else output / f"{source.stem}.png"
        if target.resolve() == source.resolve():
            raise UserError(f"{target} would replace the input; give another output=")
        tasks = [Task(source, source.name, target)]
    else:
        if output.resolve().is_relative_to(source.resolve()):
            raise UserError(f"output {output} lies inside the input {source}; give a folder outside it")
        names, others = find_images(source)
        if not names:
            known = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise UserError(f"no images in {source} ({known}){f'; it has {others}' if others else ''}")
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
        print(f"files of other kinds are left out: {others}", file=sys.stderr)
    return tasks


def _batches(
    tasks: list[Task], limit: int, tile: int, failures: dict[str, str]
) -> Iterator[list[tuple[Task, Picture]]]:
    """Readable images in groups of one size; one that will be tiled forms its own group."""
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
    tiles: Tiles | None = None,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Restores every image that can be read.

    The noise of an image depends on the seed and its name only, not on the other images in the folder.

    Args:
        restorer: on the device to work on.
        tasks: the images.
        nfe, seed: see conf/restore.yaml.
        tiles: how large images are split, and how many images or tiles are restored at a time.
        progress: shows a bar.

    Returns:
        The names of the images that failed, with the reason.
    """
    tiles = tiles or Tiles()
    failures: dict[str, str] = {}
    bar = progress.add_task("restoring", total=len(tasks)) if progress else None
    for group in _batches(tasks, tiles.batch_size, tiles.size, failures):
        degraded = torch.stack([picture.image for _, picture in group]).to(restorer.device)
        keys = torch.stack([fold(seed, "sampling", 0, task.name) for task, _ in group])
        restored = restorer.restore(degraded, keys.to(restorer.device), nfe, tiles=tiles).cpu()
        for (task, picture), image in zip(group, restored, strict=True):
            try:
                write(task.target, replace(picture, image=image))
            except OSError as error:
                failures[task.name] = f"cannot write {task.target}: {error.strerror or error}"
        if progress and bar is not None:
            progress.update(bar, advance=len(group))
    if progress and bar is not None:
        progress.update(bar, completed=len(tasks))
    return failures


@hydra_command("restore")
def main(config: DictConfig) -> None:
    for key, example in (("checkpoint", "outputs/…/checkpoints/best.ckpt"), ("input", "photos/"), ("output", "new/")):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise UserError(f"{key}= is missing; for example {key}={example}")
    nfe = None if config.nfe is None else whole_number("nfe", config.nfe, 1)
    seed = whole_number("seed", config.seed, 0)
    tile = whole_number("tile", config.tile, 1)
    overlap = tile // 4 if config.overlap is None else whole_number("overlap", config.overlap, 0)
    tiles = Tiles(tile, overlap, whole_number("batch_size", config.batch_size, 1))

    tasks = plan(Path(str(config.input)), Path(str(config.output)), config.overwrite)
    restorer = Restorer.load(str(config.checkpoint), usable_device(str(config.device)), config.trust)
    restorer.sampler = instantiate(changed(restorer.config["sampler"], config.sampler, "sampler"))
    begin = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        try:
            failures = restore_pictures(restorer, tasks, nfe, seed, tiles, progress)
        except torch.OutOfMemoryError as error:
            raise UserError("out of memory; use smaller tiles, or fewer at once: tile=128 batch_size=1") from error
    for name, reason in failures.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    done = len(tasks) - len(failures)
    print(f"restored {done} of {len(tasks)} images into {config.output} in {time.monotonic() - begin:.1f} s")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
