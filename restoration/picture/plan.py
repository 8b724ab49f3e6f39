"""Which images are restored, with which masks, and where the results go."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from restoration.errors import UserError
from restoration.picture.file import find_images, printable, suffixes
from restoration.picture.mask import find_masks


@dataclass(frozen=True)
class Task:
    """One image to restore: its file, its name (which keys its noise), the file of the result, and that of its mask."""

    source: Path
    name: str
    target: Path
    mask: Path | None = None


def plan(
    source: Path, output: Path, overwrite: bool = False, masks: Path | None = None, every_mask: bool = False
) -> list[Task]:
    """The images to restore and where the results go, checked before any work is done.

    `a.jpg` becomes `a.png`. Where that would give two files one name, `a.jpg` and `a.webp` become `a.jpg.png` and
    `a.webp.png`.

    Args:
        source: an image or a folder.
        output: a folder, or for an image a file.
        overwrite: existing results may be replaced.
        masks: a mask or a folder of masks (`find_masks`).
        every_mask: each image needs a mask; without, those that have none in the folder are named and restored blind.

    Raises:
        UserError: no input, no images, no mask for any of them, or not for each with `every_mask`, output inside the
            input or with another format's suffix, or files that would be overwritten; an input never is.
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
    if masks is not None:
        root = source if source.is_dir() else source.parent
        found = find_masks(masks, {task.source: task.source.relative_to(root) for task in tasks})
        tasks = [replace(task, mask=found.get(task.source)) for task in tasks]
        if blind := [task.name for task in tasks if task.mask is None]:
            shown = ", ".join(blind[:3]) + (f" and {len(blind) - 3} more" if len(blind) > 3 else "")
            if every_mask or len(blind) == len(tasks):
                need = "; keep_known=true needs one for each image" if every_mask else ""
                raise UserError(f"no mask in {masks} for {shown}{need}; give a file of its name, with any suffix")
            print(f"no mask in {masks} for {shown}: the network looks for holes there", file=sys.stderr)
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
