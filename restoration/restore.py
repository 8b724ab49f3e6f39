"""Restore an image or a folder of images.

python -m restoration.restore input=photos/ output=restored/
python -m restoration.restore checkpoint=outputs/…/checkpoints/best.ckpt input=photos/ output=restored/
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from restoration.errors import UserError
from restoration.flow.tiling import Tiles
from restoration.keyed import fold
from restoration.picture import (
    MAX_MEGAPIXELS,
    Picture,
    Task,
    hole_hint,
    is_out_of_memory,
    plan,
    printable,
    read,
    read_mask,
    transparent,
    write,
)
from restoration.restorer import Restored, Restorer
from restoration.run.command import hydra_command, output_folder
from restoration.run.hardware import autocast_dtype, resolve_precision, usable_device
from restoration.run.keys import changed
from restoration.run.progress import progress


@dataclass(frozen=True)
class Settings:
    """How images are restored (conf/restore.yaml explains the keys).

    Attributes:
        nfe, seed, max_megapixels, mask_invert, keep_known: the keys of these names.
        tiles: how large images are split, and how many images or tiles are restored at a time.
        alpha: transparent pixels are the mask.
        dtype: of the network's multiplications; None is float32.
    """

    nfe: int | None = None
    seed: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    tiles: Tiles = field(default_factory=Tiles)
    alpha: bool = False
    mask_invert: bool = False
    keep_known: bool = False
    dtype: torch.dtype | None = None


@dataclass
class _Image:
    """An image in work, and its hole bool (1, H, W) if a mask was given."""

    task: Task
    picture: Picture
    hole: Tensor | None


def _read(task: Task, settings: Settings) -> _Image:
    """The image of a task; ValueError with a reason of one line."""
    picture, hole = read(task.source, settings.max_megapixels), None
    if settings.alpha:
        hole = transparent(picture)
        picture.alpha = None  # the result is opaque there
    elif task.mask is not None:
        hole = read_mask(task.mask, picture, settings.mask_invert, settings.max_megapixels)
    return _Image(task, picture, hole)


def _groups(tasks: list[Task], settings: Settings, failures: dict[str, str]) -> Iterator[list[_Image]]:
    """Readable images in groups of one kind; one that will be tiled forms its own group."""
    group: list[_Image] = []
    for task in tasks:
        try:
            image = _read(task, settings)
        except ValueError as error:
            failures[task.name] = str(error)
            continue
        pixels = image.picture.pixels
        full = len(group) == settings.tiles.batch_size or max(pixels.shape) > settings.tiles.size
        if group and (full or _kind(group[0]) != _kind(image)):
            yield group
            group = []
        group.append(image)
        del image, pixels  # A large image must not stay in memory beside the next.
    if group:
        yield group


def _kind(image: _Image) -> tuple[torch.Size, torch.dtype, bool]:
    """Size and type, and whether there is a mask."""
    return image.picture.pixels.shape, image.picture.pixels.dtype, image.hole is None


def _restored(
    restorer: Restorer, group: list[_Image], settings: Settings, report: Callable[[float], None]
) -> Restored | None:
    """The restored images on the CPU; None if memory does not suffice."""
    names = [image.task.name for image in group]
    keys = torch.stack([fold(settings.seed, "sampling", 0, name) for name in names]).to(restorer.device)
    try:
        pixels = [image.picture.pixels for image in group]
        holes = [image.hole for image in group if image.hole is not None]
        degraded = torch.stack(pixels) if len(group) > 1 else pixels[0][None]
        mask = torch.stack(holes).to(restorer.device) if holes else None
        done = restorer.restore(
            degraded.to(restorer.device),
            keys,
            settings.nfe,
            mask=mask,
            tiles=settings.tiles,
            keep_known=settings.keep_known,
            dtype=settings.dtype,
            progress=report,
        )
        return Restored(done.images.cpu(), done.hole_share.cpu())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _restore_group(
    restorer: Restorer, group: list[_Image], settings: Settings, report: Callable[[float], None]
) -> dict[str, str]:
    """Restores and writes images of one kind; the reasons for those that failed. Out of memory: one at a time."""
    done = _restored(restorer, group, settings, report)
    if done is None:
        if restorer.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(group) > 1:
            reasons = [_restore_group(restorer, [member], settings, report) for member in group]
            return {name: reason for part in reasons for name, reason in part.items()}
        height, width = group[0].picture.pixels.shape[1:]
        remedy = "use smaller tiles, fewer at once (tile=128 batch_size=1), or make the image smaller"
        return {group[0].task.name: f"out of memory at {width} x {height} pixels; {remedy}"}
    failures = {}
    for image, pixels, share in zip(group, done.images, done.hole_share.tolist(), strict=True):
        name, picture = image.task.name, image.picture
        hint = hole_hint(picture, share) if image.hole is None else None
        try:
            picture.pixels = pixels  # in place: the degraded one is not needed any more
            write(image.task.target, picture)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            failures[name] = f"cannot write {printable(str(image.task.target))}: {reason}"
            continue
        print(f"{name}: {share:.1%} {'taken for' if image.hole is None else 'marked as'} a hole")
        if hint:
            print(f"{name}: no hole was found, but {hint}", file=sys.stderr)
        if picture.first_of_many:
            print(f"{name}: only the first of its frames or pages is restored", file=sys.stderr)
    return failures


def restore_pictures(
    restorer: Restorer,
    tasks: list[Task],
    settings: Settings | None = None,
    report: Callable[[float], None] = lambda done: None,
) -> dict[str, str]:
    """Restores every image that can be read; each that cannot, or that does not fit in memory, is a failure of its own.

    The noise of an image depends on the seed and its name only, not on the other images in the folder. What was taken
    for a hole is printed for each.

    Args:
        restorer: on the device to work on.
        tasks: the images.
        settings: how.
        report: is told how many images are done; parts of a large one count.

    Returns:
        The names of the images that failed, with the reason.
    """
    settings = settings or Settings()
    failures: dict[str, str] = {}
    unread: dict[str, str] = {}
    done = 0
    for group in _groups(tasks, settings, unread):
        begun = done + len(unread)

        def part(share: float, begun: int = begun) -> None:
            report(begun + share)

        part(0)
        failures |= _restore_group(restorer, group, settings, part)
        done += len(group)
        group.clear()
    report(len(tasks))
    return unread | failures


@hydra_command("restore")
def main(config: DictConfig) -> None:
    for key, example in (("input", "photos/"), ("output", "new/")):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise UserError(f"{key}= is missing; for example {key}={example}")
    if config.mask is None and (config.keep_known or config.mask_invert):
        raise UserError("keep_known and mask_invert need a mask; give mask=FILE, mask=FOLDER or mask=alpha")
    overlap = config.tile // 4 if config.overlap is None else config.overlap
    alpha = config.mask == "alpha"
    device = usable_device(str(config.device), mps=True)
    precision = resolve_precision(config.precision, device.type)
    settings = Settings(
        *(config.nfe, config.seed, config.max_megapixels, Tiles(config.tile, overlap, config.batch_size)),
        *(alpha, config.mask_invert, config.keep_known, autocast_dtype(precision)),
    )

    output = Path(str(config.output))
    masks = None if config.mask is None or alpha else Path(config.mask)
    tasks = plan(Path(str(config.input)), output, config.overwrite, masks, every_mask=config.keep_known)
    restorer = Restorer.load(config.checkpoint, device, config.trust)
    restorer.sampler = instantiate(changed(restorer.config["sampler"], config.sampler, "sampler"))
    output_folder(output if tasks[0].target != output else output.parent)
    begin = time.monotonic()
    with progress("restoring", len(tasks)) as report:
        failures = restore_pictures(restorer, tasks, settings, report)
    for name, reason in failures.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    done, how = len(tasks) - len(failures), f"{time.monotonic() - begin:.1f} s on {device.type} in {precision}"
    print(f"restored {done} of {len(tasks)} images into {printable(str(output))} in {how}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
