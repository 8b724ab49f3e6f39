"""Restore an image or a folder of images with a trained checkpoint.

python -m restoration.restore checkpoint=outputs/…/checkpoints/best.ckpt input=photos/ output=restored/
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from restoration.errors import UserError, whole_number
from restoration.flow.tiling import Tiles
from restoration.keyed import fold
from restoration.picture import MAX_MEGAPIXELS, Picture, find_images, is_out_of_memory, printable, read, suffixes, write
from restoration.restorer import Restorer
from restoration.run.command import hydra_command, output_folder
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

    `a.jpg` becomes `a.png`. Where that would give two files one name, `a.jpg` and `a.webp` become `a.jpg.png` and
    `a.webp.png`.

    Raises:
        UserError: no input, no images, output inside the input or with another format's suffix, or files that would
            be overwritten; an input never is.
    """
    others = ""
    if not source.exists():
        raise UserError(f"no input at {source}; input= takes an image or a folder of images")
    if source.is_dir():
        if output.resolve().is_relative_to(source.resolve()):
            raise UserError(f"output {output} lies inside the input {source}; give a folder outside it")
        if output.exists() and not output.is_dir():
            raise UserError(f"output {output} is a file; the results of a folder need a folder")
        names, others = find_images(source, foreign=True)
        if not names:
            raise UserError(f"no images in {source}{f'; it has {others}' if others else ''}")
        tasks = [Task(source / path, printable(path.as_posix()), output / target) for path, target in _targets(names)]
    else:
        if not source.is_file():
            raise UserError(f"input {source} is not a regular file; input= takes an image or a folder of images")
        one = not output.is_dir() and output.suffix.lower() in suffixes()
        if one and output.suffix.lower() != ".png":
            raise UserError(
                f"output {output}: results are written as PNG; give {output.with_suffix('.png')}, or a folder"
            )
        target = output if one else output / f"{source.stem}.png"
        tasks = [Task(source, printable(source.name), target)]
    existing = [task.target for task in tasks if os.path.lexists(task.target)]
    inputs = {os.path.realpath(task.source) for task in tasks} if existing else set()
    for target in existing:
        if os.path.realpath(target) in inputs:
            raise UserError(f"{target} would replace the input; give another output=")
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UserError(f"already there: {existing[0]}{more}; add overwrite=true, or give another output=")
    if others:
        print(f"files of other kinds are left out: {others}", file=sys.stderr)
    return tasks


def _targets(names: list[str]) -> list[tuple[Path, Path]]:
    """Pairs of each path and its result's, all different; no result has the name of another one's folder."""
    found = sorted(map(Path, names))
    appended = dict.fromkeys(found, 0)  # how often ".png" is appended to the name; 0: it replaces the suffix
    while True:
        targets = {path: Path(f"{path}{'.png' * n}") if n else path.with_suffix(".png") for path, n in appended.items()}
        folders = {folder for path in found for folder in path.parents}
        users: dict[Path, list[Path]] = {}
        for path, target in targets.items():
            users.setdefault(target, []).append(path)
        changed = False
        for target, paths in users.items():
            if len(paths) > 1 or target in folders:
                least = min(appended[path] for path in paths)
                for path in paths:
                    appended[path] += appended[path] == least
                changed = True
        if not changed:
            return list(targets.items())


def _batches(
    tasks: list[Task], limit: int, tile: int, max_megapixels: float, failures: dict[str, str]
) -> Iterator[list[tuple[Task, Picture]]]:
    """Readable images in groups of one size and type; one that will be tiled forms its own group."""
    group: list[tuple[Task, Picture]] = []
    for task in tasks:
        try:
            picture = read(task.source, max_megapixels)
        except ValueError as error:
            failures[task.name] = str(error)
            continue
        full = len(group) == limit or max(picture.pixels.shape) > tile
        kind = picture.pixels.shape, picture.pixels.dtype
        if group and (full or kind != (group[0][1].pixels.shape, group[0][1].pixels.dtype)):
            yield group
            group = []
        group.append((task, picture))
        del picture  # A large image must not stay in memory beside the next.
    if group:
        yield group


def _restore_group(
    restorer: Restorer, group: list[tuple[Task, Picture]], nfe: int | None, seed: int, tiles: Tiles
) -> dict[str, str]:
    """Restores and writes images of one size; the reasons for those that failed. Out of memory: one at a time."""
    keys = torch.stack([fold(seed, "sampling", 0, task.name) for task, _ in group]).to(restorer.device)
    try:
        degraded = torch.stack([picture.pixels for _, picture in group]) if len(group) > 1 else group[0][1].pixels[None]
        restored = restorer.restore(degraded.to(restorer.device), keys, nfe, tiles=tiles).cpu()
        del degraded
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        restored = None
    if restored is None:  # Outside the handler, whose error would keep the tensors.
        if restorer.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(group) > 1:
            reasons = [_restore_group(restorer, [member], nfe, seed, tiles) for member in group]
            return {name: reason for part in reasons for name, reason in part.items()}
        task, picture = group[0]
        height, width = picture.pixels.shape[1:]
        remedy = "use smaller tiles, fewer at once (tile=128 batch_size=1), or make the image smaller"
        return {task.name: f"out of memory at {width} x {height} pixels; {remedy}"}
    failures = {}
    for (task, picture), image in zip(group, restored, strict=True):
        try:
            picture.pixels = image  # in place: the degraded one is not needed any more
            write(task.target, picture)
            if picture.first_of_many:
                print(f"{task.name}: only the first of its frames or pages is restored", file=sys.stderr)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            failures[task.name] = f"cannot write {printable(str(task.target))}: {reason}"
    return failures


def restore_pictures(
    restorer: Restorer,
    tasks: list[Task],
    nfe: int | None = None,
    seed: int = 0,
    tiles: Tiles | None = None,
    progress: Progress | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> dict[str, str]:
    """Restores every image that can be read; each that cannot, or that does not fit in memory, is a failure of its own.

    The noise of an image depends on the seed and its name only, not on the other images in the folder.

    Args:
        restorer: on the device to work on.
        tasks: the images.
        nfe, seed: see conf/restore.yaml.
        tiles: how large images are split, and how many images or tiles are restored at a time.
        progress: shows a bar.
        max_megapixels: larger images are not read.

    Returns:
        The names of the images that failed, with the reason.
    """
    tiles = tiles or Tiles()
    failures: dict[str, str] = {}
    bar = progress.add_task("restoring", total=len(tasks)) if progress else None
    for group in _batches(tasks, tiles.batch_size, tiles.size, max_megapixels, failures):
        failures |= _restore_group(restorer, group, nfe, seed, tiles)
        if progress and bar is not None:
            progress.update(bar, advance=len(group))
        group.clear()
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
    limit = config.max_megapixels
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not 0 < limit < float("inf"):
        raise UserError(f"max_megapixels={limit} must be a number above 0")
    if not isinstance(config.overwrite, bool):
        raise UserError(f"overwrite={config.overwrite} must be true or false")

    output = Path(str(config.output))
    tasks = plan(Path(str(config.input)), output, config.overwrite)
    restorer = Restorer.load(str(config.checkpoint), usable_device(str(config.device)), config.trust)
    restorer.sampler = instantiate(changed(restorer.config["sampler"], config.sampler, "sampler"))
    output_folder(output if tasks[0].target != output else output.parent)
    begin = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        failures = restore_pictures(restorer, tasks, nfe, seed, tiles, progress, limit)
    for name, reason in failures.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    done = len(tasks) - len(failures)
    print(f"restored {done} of {len(tasks)} images into {printable(str(output))} in {time.monotonic() - begin:.1f} s")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
