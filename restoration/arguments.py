"""The values of a config, checked against the annotations of what it constructs."""

import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.utils import get_object

from restoration.errors import Count, NotNegative, Positive, Range, Share, UserError

_Beta = Annotated[float, Range(0, 0.999999)]

# Other libraries check some of their arguments late, by another name, or not at all.
_LIBRARY: dict[str, dict[str, Any]] = {
    "torch.optim.AdamW": {
        "lr": NotNegative,
        "betas": tuple[_Beta, _Beta],
        "eps": NotNegative,
        "weight_decay": NotNegative,
    },
    "torch.optim.SGD": {
        "lr": NotNegative,
        "momentum": Share,
        "dampening": Share,
        "weight_decay": NotNegative,
        "nesterov": bool,
    },
    "torch.nn.CrossEntropyLoss": {"label_smoothing": Share},
    "lightning.pytorch.Trainer": {
        "devices": Annotated[int, Range(-1, 1024)] | str | list[int],
        "num_nodes": Annotated[int, Range(1, 65_536)],
        "max_steps": Count | None,
        "precision": Any,  # resolve.py
        "gradient_clip_val": NotNegative | None,
        "check_val_every_n_epoch": Count | None,
        "val_check_interval": Positive | None,
        "num_sanity_val_steps": Annotated[int, Range(-1)],
        "log_every_n_steps": Annotated[int, Range(0)],
    },
    "lightning.pytorch.callbacks.EarlyStopping": {
        "mode": Literal["min", "max"],
        "patience": Count,
        "min_delta": NotNegative,
    },
}


def check_arguments(node: Mapping[Any, Any], path: str = "", hints: Mapping[str, Any] | None = None) -> None:
    """Refuses values of another type, or out of range, for what a config constructs.

    Args:
        node: plain containers; interpolations and missing values are skipped.
        path: of the node, for messages.
        hints: annotations of its keys, where it has no `_target_`; a dict for a group.

    Raises:
        UserError: names the first key, and what is possible.
    """
    if "_target_" in node:
        if not isinstance(node["_target_"], str):
            raise UserError(f"{path}._target_={node['_target_']} must be the name of a class")
        hints = {**_annotations(node["_target_"]), "_partial_": bool, "_recursive_": bool}
    for key, value in node.items():
        hint = (hints or {}).get(key, Any)
        _check(f"{path}.{key}" if path else str(key), value, hint)


def _check(key: str, value: Any, hint: Any) -> None:
    if isinstance(value, str) and ("${" in value or value == "???"):
        return
    if isinstance(hint, dict) and isinstance(value, Mapping):
        return check_arguments(value, key, hint)
    if not _fits(value, hint):
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        raise UserError(f"{key}={shown[:80]} must be {_words(hint)}")
    if isinstance(value, Mapping):
        inner = next((typing.get_args(part)[1] for part in _parts(hint) if _is_mapping(part)), Any)
        check_arguments(value, key, dict.fromkeys(value, inner))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        part = next((part for part in _parts(hint) if _is_list(part)), list)
        hints = typing.get_args(part) if _is_pair(part) else (*typing.get_args(part)[:1], Any)[:1] * len(value)
        for number, (item, each) in enumerate(zip(value, hints, strict=True)):
            _check(f"{key}[{number}]", item, each)


@functools.cache
def _annotations(target: str) -> dict[str, Any]:
    try:
        called = get_object(target)
        hints = typing.get_type_hints(called.__init__ if inspect.isclass(called) else called, include_extras=True)
    except Exception:  # check_keys refuses names that do not exist; a library's own hints may not resolve
        hints = {}
    return hints | _LIBRARY.get(target, {})


def takes_any_names(target: str, argument: str) -> bool:
    """Whether the argument is a mapping of any names to any values, such as further options of a library."""
    parts = _parts(_annotations(target).get(argument))
    return any(_is_mapping(part) and typing.get_args(part)[1:] == (Any,) for part in parts)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union; else the hint itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _is_mapping(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _is_list(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    return inspect.isclass(origin) and issubclass(origin, Collection) and not issubclass(origin, str | bytes | Mapping)


def _is_pair(hint: Any) -> bool:
    """Whether it is a tuple of fixed length."""
    return typing.get_origin(hint) is tuple and typing.get_args(hint)[-1:] != (...,)


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, dict):
        return False
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is Annotated:
        ranges = [part for part in hint.__metadata__ if isinstance(part, Range)]
        return _fits(value, arguments[0]) and all(value in part for part in ranges)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and -math.inf < value < math.inf
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is Path:
        return isinstance(value, str)
    if _is_mapping(hint):
        return isinstance(value, Mapping)
    if _is_list(hint):
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and (not _is_pair(hint) or len(value) == len(arguments))
    if not inspect.isclass(hint) or hint.__module__.partition(".")[0] in sys.stdlib_module_names:
        return True
    return isinstance(value, Mapping) and "_target_" in value


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_words(part) for part in arguments if not {part, str} == {Path, str}]
        if float in arguments and int in arguments:
            parts.remove("a whole number")
        return " or ".join(parts)
    if origin is Annotated:
        return f"{_words(arguments[0])} {hint.__metadata__[0]}"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if isinstance(hint, dict) or _is_mapping(hint):
        return "values by name"
    if _is_pair(hint):
        return f"a list of {len(arguments)}"
    if _is_list(hint):
        return f"a list, each {_words(arguments[0])}" if arguments else "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "text"}
    if hint in (None, type(None)):
        return "null"
    return words.get(hint) or f"an option with the _target_ of a {getattr(hint, '__name__', hint)}"


def leaves(config: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of everything that is not a mapping."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
