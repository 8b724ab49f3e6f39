"""What a file from elsewhere may name: this project's classes, and what the user trusts. Nothing in it is a program."""

import functools
import importlib.util
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object

from restoration.errors import UserError

# Rebuilds the restorer of a source from the config in the same file. `Restorer.load` would open another file.
BUILD = "restoration.restorer.Restorer.build"

# What each part of a config may name: classes of a room ("….") and single objects. Other parts name nothing.
ALLOWED: dict[str, tuple[str, ...]] = {
    "data": ("restoration.data.",),
    "corruption": ("restoration.corruption.",),
    "estimator": ("restoration.estimator.",),
    "backbone": ("restoration.backbone.",),
    "source": ("restoration.flow.", BUILD),
    "prediction": ("restoration.flow.",),
    "sampler": ("restoration.sampler.",),
    "objective": ("restoration.objective.", "restoration.flow.", "restoration.sampler.", "restoration.backbone."),
    "evaluation": ("restoration.metrics.",),
    "schedule": ("restoration.training.schedule.",),
    "optimizer": ("restoration.training.optimizer.", "torch.optim.AdamW"),
    "model": ("restoration.classifier.",),
    "loss": ("restoration.classifier.", "torch.nn.CrossEntropyLoss", "timm.loss.BinaryCrossEntropy"),
    **dict.fromkeys(("augmentation", "transfer", "resizing"), ("restoration.classifier.",)),
    "trainer": ("lightning.pytorch.Trainer",),
    "callbacks": (
        "restoration.callbacks.",
        "lightning.pytorch.callbacks.EarlyStopping",
    ),
    "logger": ("restoration.training.loggers.RunCSVLogger", "restoration.training.loggers.wandb_logger"),
}
_DEPTH = 40
_VALUES = 20_000

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
# Packages that run whatever they are told to.
_NEVER = sys.stdlib_module_names | {"hydra", "omegaconf", "pip", "setuptools"}


def packages(trust: Any) -> tuple[str, ...]:
    """Names of packages or single objects, from a name, several or None. UserError if it is anything else."""
    names = [trust] if isinstance(trust, str) else [] if trust is None else trust
    if not isinstance(names, Iterable) or isinstance(names, bytes | dict):
        raise UserError(f"trust={trust}: give the name of a package, such as trust=my_package")
    names = tuple(names)
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise UserError(f"trust={_shown(name)}: give the name of a package, such as trust=my_package")
    return names


def named(config: Any) -> tuple[str, ...]:
    """Every `_target_` in plain containers. For a config of the user's own, these are what the user trusts."""
    if isinstance(config, dict):
        own = config.get("_target_")
        return (*([own] if isinstance(own, str) else []), *(name for value in config.values() for name in named(value)))
    return tuple(name for value in config for name in named(value)) if isinstance(config, list) else ()


def check_targets(config: Any, trust: Any = None, origin: str | Path = "the config") -> None:
    """Refuses the config of a file unless it is plain containers that name only what is allowed (`ALLOWED`).

    Nothing is called, and no module is imported but this project's and the trusted ones.

    Args:
        config: by group, as a checkpoint holds it.
        trust: packages of the user's own, or full names of single objects.
        origin: the file, for the message.

    Raises:
        UserError: the first thing that is not allowed, and how to trust it.
    """
    _Check(packages(trust), str(origin)).groups(config, "", 0)


class _Check:
    def __init__(self, trusted: tuple[str, ...], origin: str) -> None:
        self.trusted, self.origin, self.left = trusted, origin, _VALUES

    def refuse(self, reason: str, remedy: str = "do not use this file") -> UserError:
        return UserError(f"{self.origin}: {reason}; nothing was executed; {remedy}")

    def groups(self, config: Any, path: str, depth: int) -> None:
        if type(config) is not dict:
            raise self.refuse(f"its config is a {type(config).__name__}, not groups of values")
        for group, value in config.items():
            key = f"{path}.{_shown(group)}" if path else _shown(group)
            allowed = ALLOWED.get(group, ())
            self.value(value, key, allowed, depth + 1)

    def value(self, value: Any, path: str, allowed: tuple[str, ...], depth: int) -> None:
        self.left -= 1
        if depth > _DEPTH or self.left < 0:
            raise self.refuse("its config is nested too deeply, or has too many values")
        if type(value) is dict:
            if "_target_" in value:
                self.target(value, path, allowed)
            for key, inner in value.items():
                if type(key) is not int and not (type(key) is str and key.isprintable()):
                    raise self.refuse(f"its config has a key at {path} that is no text")
                if key == "config" and value.get("_target_") == BUILD:
                    self.groups(inner, f"{path}.config", depth + 1)
                else:
                    self.value(inner, f"{path}.{_shown(key)}", allowed, depth + 1)
        elif type(value) is list:
            for number, inner in enumerate(value):
                self.value(inner, f"{path}[{number}]", allowed, depth + 1)
        elif value is not None and type(value) not in (str, int, float, bool):
            raise self.refuse(f"{path} of its config is a {type(value).__name__}, not a plain value")
        elif type(value) is str and "${" in value:
            raise self.refuse(f"{path} of its config is an interpolation, {_shown(value)}")

    def target(self, node: dict[Any, Any], path: str, allowed: tuple[str, ...]) -> None:
        name = node["_target_"]
        if type(name) is not str or not _NAME.fullmatch(name):
            raise self.refuse(f"{path}._target_ of its config is not a name, {_shown(name)}")
        if name in self.trusted:
            return
        if name == BUILD in allowed:
            written = node.keys() == {"_target_", "_recursive_", "config", "weights"}
            if not (written and node["_recursive_"] is False and node["weights"] == "checkpoint"):
                raise self.refuse(f"{path} of its config is not a restorer as training writes it")
            return
        if name in allowed or any(_class_of(name, room) for room in allowed if room.endswith(".")):
            return
        package = next((package for package in self.trusted if name.startswith(f"{package}.")), None)
        if package is None:
            raise self.refuse(f"its config names {_shown(name)} ({path}), which is not allowed there", _remedy(name))
        try:
            found = _located(name)
        except Exception as error:  # the user's own module may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{self.origin}: {_shown(name)} ({path}) cannot be imported ({reason})") from error
        home = getattr(found, "__module__", None)
        if not callable(found) or not f"{home}.".startswith(f"{package}."):
            raise self.refuse(
                f"its config names {_shown(name)} ({path}), which is not defined in the trusted {package}",
                _remedy(name),
            )


def _class_of(name: str, room: str) -> bool:
    """Whether it is a class defined in the room. Other modules that one of its modules imports are not entered."""
    module, _, attribute = name.rpartition(".")
    if not f"{module}.".startswith(room):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    # Hydra's own way to the object must end at the same.
    return isinstance(found, type) and f"{found.__module__}.".startswith(room) and get_object(name) is found


def _located(name: str) -> Any:
    """An object of a module, or an attribute of a class of one."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        module = ".".join(parts[:-count])
        try:
            return functools.reduce(getattr, parts[-count:], import_module(module))
        except ModuleNotFoundError as error:
            if count == len(parts) - 1 or not f"{module}.".startswith(f"{error.name}."):
                raise
    raise ImportError(f"no module of {name}")


def _remedy(name: str) -> str:
    top = name.partition(".")[0]
    if top == "restoration":
        return "give a checkpoint of this project"
    if top in _NEVER or "." not in name:
        return "do not use this file"
    # A whole library has functions that run anything: only the single object is proposed.
    spec = importlib.util.find_spec(top)
    installed = spec is not None and {"site-packages", "dist-packages"} & set(Path(spec.origin or "").parts)
    return f"if you trust that code and this file, add trust={_shown(name) if installed else top}"


def _shown(value: Any) -> str:
    """A value of an untrusted file within a line: no control characters, not long."""
    text = value if isinstance(value, str) else f"a {type(value).__name__}"
    text = text.encode("unicode_escape").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def shapes(state: dict[str, Any]) -> dict[str, Any]:
    """The shape of each tensor of a state dict; None for other values."""
    return {name: value.shape if isinstance(value, torch.Tensor) else None for name, value in state.items()}


def load_tensors(path: str | Path) -> Any:
    """What `torch.save` wrote, without running a pickle: tensors and plain containers.

    Raises:
        Exception: anything else in it, compressed parts (which `torch.save` does not write) or a damaged file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is compressed")
    with warnings.catch_warnings(action="ignore"):  # of unusual pickles, before their refusal
        return torch.load(path, map_location="cpu", weights_only=True)
