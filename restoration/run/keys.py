"""Strict config keys: every key exists in the defaults or is accepted by its `_target_`."""

import importlib
import inspect
import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from restoration.arguments import check_arguments, leaves, takes_any_names
from restoration.errors import NFE, Count, NotNegative, Positive, Range, Share, UserError
from restoration.run.overrides import Overrides

# `get_object` logs the errors that it raises.
logging.getLogger(get_object.__module__).setLevel(logging.CRITICAL)

# The flow that `objective=trajectory` follows.
TEACHER = "objective.terms.trajectory.teacher"

# Where the code that imports a `_target_` is.
_LOADERS = ("<frozen importlib", *(str(Path(file).parent) for file in (importlib.__file__, hydra.__file__) if file))

_RATES = ("drop_rate", "attn_drop_rate", "proj_drop_rate", "drop_path_rate")

# Values of keys that no `_target_` takes, in all commands.
_VALUES: dict[str, Any] = {
    **{
        "name": str | int | float,
        "folder": str,
        "seed": Annotated[int, Range(0, 2**32 - 1)],
        "compile": bool,
        "init": str | None,
    },
    **{"validations": Count, "budget": {"images": Count}, "checkpoint": str | None, "output": str | None, "tune": bool},
    "classifier": str | list[str] | None,
    "regularisation": {"l1": NotNegative, **dict.fromkeys(_RATES, Share)},
    **{"split": Literal["test", "selection"], "device": str, "overwrite": bool, "nfe": NFE | None, "images": Count},
    **{"reference": NFE, "frechet": {"model": str | None, "weights": str | None, "stem": str | None}},
    **{"input": str, "tile": Count, "overlap": Annotated[int, Range(0)] | None, "batch_size": Count},
    **{"init": str | None, "mask": str | None, "mask_invert": bool, "keep_known": bool},
    **{"max_megapixels": Positive, "port": Annotated[int, Range(1, 65535)], "resume": bool | Literal["auto"]},
    **dict.fromkeys(
        ("model", "loss", "augmentation", "transfer", "resizing")
        + ("data", "corruption", "estimator", "backbone", "source", "prediction", "sampler", "objective", "optimizer")
        + ("schedule", "callbacks", "trainer", "logger", "evaluation", "run"),
        {},
    ),
}

# Keys that hold a file or a folder.
PATHS = (
    *("checkpoint", "classifier", "init", "input", "output", "mask", "frechet.weights"),
    *("data.root", "data.extra", "source.restorer.path", "backbone.encoder.weights", "model.weights"),
    *("augmentation.restored.restorer", "augmentation.restored.hard", TEACHER),
)


def allow_any_key(arguments: list[str]) -> list[str]:
    """Lets overrides name any dotted key, and paths have any name.

    Hydra alone would refuse `trainer.limit_val_batches=4` because no file lists it, although Lightning's Trainer
    takes it: `a.b=c` becomes `++a.b=c`, and `check_keys` checks the composed config. Hydra's grammar would read
    `photos (1)` as a call and `2024_05` as a number: paths are quoted, unless a sweep may list several.
    """
    sweep = "-m" in arguments or "--multirun" in arguments

    def permit(argument: str) -> str:
        key, equals, value = argument.partition("=")
        if key.lstrip("+") in PATHS and not sweep and value not in ("", "null", "???"):
            several = key == "classifier" and value.startswith("[") and value.endswith("]")
            parts = re.findall(r"'[^']*'|\"[^\"]*\"|[^,]+", value[1:-1]) if several else [value]
            words = ",".join(part if part[0] in "'\"" else _quoted(part) for part in map(str.strip, parts) if part)
            argument = f"{key}=[{words}]" if several else f"{key}={words}"
        dotted = "." in key and "/" not in key and "@" not in key
        if equals and dotted and key[0].isalpha() and not key.startswith("hydra."):
            return f"++{argument}"
        return argument

    return [permit(argument) for argument in arguments]


def _quoted(path: str) -> str:
    return QuotedString(os.path.expanduser(path), Quote.single).with_quotes()


def reference_config() -> DictConfig:
    """The running job's config from its group choices alone: no experiment, ablation, or override of a value."""
    runtime = HydraConfig.get()
    config_name = runtime.job.config_name
    assert config_name is not None
    choices = [
        f"~{group}" if choice is None or group in ("experiment", "ablation") else f"{group}={choice}"
        for group, choice in runtime.runtime.choices.items()
        if not group.startswith("hydra/") and "@" not in group
    ]
    return compose(config_name, overrides=choices)


def _accepted(target: str, path: str) -> set[str] | None:
    """Keyword names that a `_target_` takes; None if it takes any.

    Raises:
        UserError: there is no such object. An error inside its module stays an ImportError.
    """
    try:
        called = get_object(target)
    except ImportError as error:
        cause = error.__cause__
        files = [frame.filename for frame in traceback.extract_tb(cause.__traceback__)] if cause else []
        if all(file.startswith(_LOADERS) for file in files):
            raise UserError(f"{path}._target_={target} does not exist ({cause}); correct the name") from error
        raise
    parameters = inspect.signature(called.__init__ if inspect.isclass(called) else called).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return set(parameters) - {"self"} | {"_target_", "_partial_"}


def _unknown(config: Any, reference: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Dotted keys of `config` that neither the reference has nor a `_target_` accepts, with the keys known there."""
    if not isinstance(config, Mapping):
        return
    target = config.get("_target_")
    # `weights: {}` in a file takes names of the user's choice; what receives them checks them, at every depth.
    filled = isinstance(reference, Mapping) and not reference and target is None
    reference = reference if isinstance(reference, Mapping) else {}
    accepted = _accepted(target, path) if isinstance(target, str) else set()
    for key, value in config.items():
        inner = f"{path}.{key}" if path else str(key)
        # Named objects may be added to a mapping of objects; the keys of each are checked against its target.
        named = target is None and _is_object(value) and all(v is None or _is_object(v) for v in reference.values())
        free = filled or named
        if key not in reference and accepted is not None and key not in accepted and not free:
            yield inner, sorted({str(name) for name in reference} | accepted)
            continue
        free = isinstance(target, str) and takes_any_names(target, str(key))
        if not (filled or free) or _is_object(value):
            yield from _unknown(value, reference.get(key), inner)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def check_keys(config: DictConfig, reference: DictConfig) -> None:
    """Refuse every key that would otherwise be ignored.

    Args:
        config: the composed config.
        reference: the same choices without experiment and overrides (see `reference_config`).

    Raises:
        UserError: names the first unknown key, and the nearest known one.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    known = OmegaConf.to_container(reference, resolve=False)
    for path, names in _unknown(plain, known, ""):
        parent, _, key = path.rpartition(".")
        near = get_close_matches(key, names, n=1)
        public = [name for name in names if not name.startswith("_")]
        known_here = f"; known here: {', '.join(public)}" if public else f"; {parent} takes no keys"
        hint = f"; did you mean {near[0]!r}?" if near else known_here
        files = []
        if HydraConfig.initialized() and not Overrides().given(path):
            choices = HydraConfig.get().runtime.choices
            files = [f"{group}={choices[group]}" for group in ("experiment", "ablation") if choices.get(group)]
        origin = f" (from the file of {' or '.join(files)})" if files else ""
        raise UserError(f"unknown key {path!r}{origin}{hint}")


def check_values(config: Any) -> None:
    """Refuse values of the wrong type, or out of range. UserError names the first key, and what is possible."""
    plain = OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config
    check_arguments(plain, hints=_VALUES)  # type: ignore[arg-type]


def changed(trained: Any, asked: DictConfig, group: str) -> dict[str, Any]:
    """A group of a checkpoint's config with some values changed, or replaced by another option.

    Args:
        trained: plain containers.
        asked: values of the group's keys, or a whole option with its `_target_`.
        group: its name, for messages.

    Raises:
        UserError: a key that the group does not have.
    """
    whole = asked if "_target_" in asked else OmegaConf.merge(trained, asked)
    if whole is not asked:
        check_keys(OmegaConf.create({group: whole}), OmegaConf.create({group: trained}))
    return OmegaConf.to_container(whole)  # type: ignore[return-value]


def check_ablations(config: DictConfig) -> None:
    """Refuse an ablation that the command line overrides: its name would describe another run.

    Raises:
        UserError: names the key or group, and both values.
    """
    runtime = HydraConfig.get().runtime
    for name in Overrides().ablations:
        files = (Path(source.path) / "ablation" / f"{name}.yaml" for source in runtime.config_sources)
        own = OmegaConf.to_container(OmegaConf.load(next(file for file in files if file.is_file())))
        assert isinstance(own, dict)
        sets = {}
        for default in own.pop("defaults", []):
            for group, option in default.items():
                group = group.removeprefix("override /")
                sets[group] = (option, runtime.choices[group])
        whole = OmegaConf.merge(config, own)  # resolves what the ablation takes from other keys
        sets |= {key: (OmegaConf.select(whole, key), OmegaConf.select(config, key)) for key, _ in leaves(own)}
        for key, (wanted, found) in sets.items():
            if wanted != found:
                raise UserError(
                    f"ablation={name} sets {key}={wanted}, but the command line has {key}={found}; remove one of them"
                )
