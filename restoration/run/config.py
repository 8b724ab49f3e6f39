"""From a command line to objects: strict keys, one-line errors, automatic precision."""

import functools
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException as ConfigException

from restoration.errors import UserError

__all__ = [
    "UserError",
    "allow_any_key",
    "autocast_dtype",
    "changed",
    "check_keys",
    "command",
    "given",
    "leaves",
    "output_folder",
    "reference_config",
    "resolve_precision",
    "usable_device",
]

log = logging.getLogger(__name__)

# Keys that hold a file or a folder.
PATHS = (
    *("checkpoint", "input", "output", "frechet.weights"),
    *("data.root", "source.restorer.path", "backbone.encoder.weights"),
)
# Of Lightning's words: no aliases, and no weights other than float32.
PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed")


def allow_any_key(arguments: list[str]) -> list[str]:
    """Overrides of a dotted key may name any key, and paths may have any name.

    Hydra alone would refuse `trainer.limit_val_batches=4` because no file lists it, although Lightning's Trainer
    takes it: `a.b=c` becomes `++a.b=c`, and `check_keys` judges it once the config is whole. Hydra's grammar would
    take `photos (1)` for a call and `2024_05` for a number: paths are quoted, unless a sweep may list several.
    """
    sweep = "-m" in arguments or "--multirun" in arguments

    def permit(argument: str) -> str:
        key, equals, value = argument.partition("=")
        if key.lstrip("+") in PATHS and not sweep and value not in ("", "null", "???") and value[0] not in "'\"":
            argument = f"{key}={QuotedString(os.path.expanduser(value), Quote.single).with_quotes()}"
        dotted = "." in key and "/" not in key and "@" not in key
        if equals and dotted and key[0].isalpha() and not key.startswith("hydra."):
            return f"++{argument}"
        return argument

    return [permit(argument) for argument in arguments]


def reference_config() -> DictConfig:
    """The running job's config as its group choices alone give it: no experiment, contender, or override of a value."""
    runtime = HydraConfig.get()
    config_name = runtime.job.config_name
    assert config_name is not None
    choices = [
        f"~{group}" if choice is None or group in ("experiment", "contender") else f"{group}={choice}"
        for group, choice in runtime.runtime.choices.items()
        if not group.startswith("hydra/") and "@" not in group
    ]
    return compose(config_name, overrides=choices)


def given(key: str) -> bool:
    """Whether the running job's command line sets the key, or one below it; a file may set it, too."""
    names = (override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task)
    return any(name == key or name.startswith(f"{key}.") for name in names)


def _accepted(target: str) -> set[str] | None:
    """Keyword names that a `_target_` takes; None where it takes any."""
    called = get_object(target)
    parameters = inspect.signature(called.__init__ if inspect.isclass(called) else called).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return set(parameters) - {"self"} | {"_target_", "_partial_"}


def _unknown(config: Any, reference: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Dotted keys of `config` that neither the reference has nor a `_target_` accepts, with the keys known there."""
    if not isinstance(config, Mapping):
        return
    target = config.get("_target_")
    # `weights: {}` in a file is filled by names of the user's own; whoever takes the mapping judges them.
    filled = isinstance(reference, Mapping) and not reference and target is None
    reference = reference if isinstance(reference, Mapping) else {}
    accepted = _accepted(target) if isinstance(target, str) else set()
    for key, value in config.items():
        inner = f"{path}.{key}" if path else str(key)
        # Names of objects may be added where there are only such; their targets judge again.
        named = target is None and _is_object(value) and all(v is None or _is_object(v) for v in reference.values())
        free = filled or named
        if key not in reference and accepted is not None and key not in accepted and not free:
            yield inner, sorted({str(name) for name in reference} | accepted)
            continue
        yield from _unknown(value, reference.get(key), inner)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def check_keys(config: DictConfig, reference: DictConfig) -> None:
    """Refuse, by name, every key that would otherwise be ignored.

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
        if HydraConfig.initialized() and not given(path):
            choices = HydraConfig.get().runtime.choices
            files = [f"{group}={choices[group]}" for group in ("experiment", "contender") if choices.get(group)]
        origin = f" (from the file of {' or '.join(files)})" if files else ""
        raise UserError(f"unknown key {path!r}{origin}{hint}")


def leaves(config: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all that is no mapping itself."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def changed(trained: Any, asked: DictConfig, group: str) -> dict[str, Any]:
    """A group of a checkpoint's config with the changes asked for, or the option chosen by name in its place.

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


def resolve_precision(precision: str | int, accelerator: str) -> str | int:
    """What `trainer.precision=auto` means on this hardware; the other words of `PRECISIONS` pass through.

    bfloat16 where the hardware multiplies in it, float16 on older GPUs, float32 on other CPUs, where bfloat16 is
    emulated and two to three times slower.

    Raises:
        UserError: another word.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: choose one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        chosen = "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
        where = torch.cuda.get_device_name()
    else:
        fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        chosen = "bf16-mixed" if fast else "32-true"
        where = "CPU with bfloat16 instructions" if fast else "CPU without bfloat16 instructions"
    log.info("precision: %s (%s)", chosen, where)
    return chosen


def autocast_dtype(precision: str | int) -> torch.dtype | None:
    """The type in which a network of this precision multiplies outside the trainer; None is its own, float32."""
    if "mixed" not in str(precision):
        return None
    return torch.float16 if str(precision).startswith("16") else torch.bfloat16


def usable_device(name: str) -> torch.device:
    """The device of that name; auto is a GPU where there is one. UserError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used here ({str(error).splitlines()[0]}); try device=cpu") from error


def output_folder(folder: Path) -> Path:
    """The folder, made where it is missing, before any work that would be lost. UserError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {folder} cannot be a folder ({error.strerror}); give another") from error
    return folder


def _cause(error: BaseException) -> str | None:
    """The message for the user, where the error or what it came from has one."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return str(link)
        link = link.__cause__
    if isinstance(error, InstantiationException):
        # A constructor refused its arguments: its own words, and the key they stand under.
        key = str(error).rpartition("full_key: ")[2] if "full_key: " in str(error) else ""
        reason = str(error.__cause__ or error).splitlines()[0]
        return f"{key}: {reason}" if key else reason
    # FloatingPointError: the guards' own, which say what to do.
    told = isinstance(error, ConfigException | HydraException | FloatingPointError)
    return str(error).splitlines()[0] if told else None


def command(main: Callable[..., Any]) -> Callable[..., Any]:
    """A command's task: what the user can mend becomes one line on stderr and exit status 2.

    A job of a multirun raises instead, so that the other jobs still run; SIGTERM ends with status 143.
    """

    @functools.wraps(main)
    def run(*arguments: Any) -> Any:
        try:
            return main(*arguments)
        except SIGTERMException:
            sys.exit(143)
        except Exception as error:
            message = _cause(error)
            if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
                log.error("job failed: %s", message, exc_info=None if message else error)
                # A kept exception keeps its frames, and they keep the model.
                traceback.clear_frames(error.__traceback__)
                raise
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)

    return run
