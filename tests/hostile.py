"""Crafted files: what a stranger's checkpoint might hold. Each would leave the file `canary` if it ran."""

import copy
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_configs import CLEAN, CONFIGS, TARGETS, Touch, pickled
from hydra.errors import InstantiationException

from restoration.errors import UserError
from restoration.run.command import user_message


def write(path: Path, config: Any, **extra: Any) -> Path:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # for pickling the deep ones
    try:
        torch.save({"config": config, "state_dict": {"restorer.x": torch.zeros(1)}, "images_seen": 1, **extra}, path)
    finally:
        sys.setrecursionlimit(limit)
    return path


# Files whose form is the attack.
def _plain_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickled(canary).read_bytes())


def _pickle_inside(path: Path, canary: Path) -> None:
    write(path, CLEAN, extra=Touch(canary))


def _pickle_in_the_config(path: Path, canary: Path) -> None:
    write(path, {**CLEAN, "source": Touch(canary)})


def _pickle_in_the_weights(path: Path, canary: Path) -> None:
    torch.save({"config": CLEAN, "state_dict": {"restorer.x": Touch(canary)}}, path)


def _legacy(path: Path, canary: Path) -> None:
    torch.save({"config": CLEAN, "x": Touch(canary)}, path, _use_new_zipfile_serialization=False)


def _module(path: Path, canary: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), path)


def _script(path: Path, canary: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def _bomb(path: Path, canary: Path) -> None:
    write(path, CLEAN, zeros=torch.zeros(1_000_000))
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    os.replace(path.with_suffix(".zip"), path)


def _weights_are_a_list(path: Path, canary: Path) -> None:
    torch.save({"config": CLEAN, "state_dict": [torch.zeros(1)]}, path)


def _weights_without_names(path: Path, canary: Path) -> None:
    torch.save({"config": CLEAN, "state_dict": {1: torch.zeros(1)}}, path)


FILES: dict[str, Callable[[Path, Path], None]] = {
    "plain pickle": _plain_pickle,
    "pickle inside": _pickle_inside,
    "pickle in the config": _pickle_in_the_config,
    "pickle in the weights": _pickle_in_the_weights,
    "legacy": _legacy,
    "module": _module,
    "script": _script,
    "bomb": _bomb,
    "weights are a list": _weights_are_a_list,
    "weights without names": _weights_without_names,
}


def crafted(folder: Path) -> tuple[dict[str, Path], Path]:
    """All of them, and the canary. The folder gets a package `planted`, whose import writes the canary too."""
    canary = folder / "canary"
    (folder / "planted.py").write_text(f"open({str(canary)!r}, 'w')\nclass Source: ...\n")
    paths = {}
    configs = {name: (lambda make=make: {**CLEAN, "source": make(canary)}) for name, make in TARGETS.items()}
    configs |= {name: (lambda make=make: make(canary)) for name, make in CONFIGS.items()}
    for number, (name, config) in enumerate(configs.items()):
        paths[name] = write(folder / f"{number}.ckpt", copy.copy(config()))
    for number, (name, make) in enumerate(FILES.items(), len(paths)):
        paths[name] = folder / f"{number}.ckpt"
        make(paths[name], canary)
    assert not canary.exists()
    return paths, canary


def refusal(act: Callable[[], object]) -> str:
    """The line that a command shows; it must be one."""
    with pytest.raises((UserError, InstantiationException)) as caught:
        act()
    message = user_message(caught.value)
    assert message is not None, caught.value
    assert message.isprintable() and len(message) < 500, message
    return message
