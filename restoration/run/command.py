"""Commands: their config folder, and errors for two kinds of people."""

import errno
import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from restoration.arguments import leaves
from restoration.checkpoint_file import reason
from restoration.errors import UserError
from restoration.run.isolation import isolated
from restoration.run.keys import allow_any_key, check_keys, check_values, reference_config
from restoration.run.stopping import in_slurm_job, leave_to_slurm
from restoration.run.sweep import JobError, sweep_end

log = logging.getLogger(__name__)

_INSTALLED = {"site-packages", "dist-packages"}

# A wheel carries the folder inside the package; in the repository it stands beside it.
_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (folder / "train.yaml").is_file())


class SharedGroups(SearchPathPlugin):
    """A command whose config folder lies in `CONF` finds the groups of `CONF` too, after its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        places = [Path(part.path.removeprefix("file://")) for part in search_path.get_path() if part.provider == "main"]
        if any(CONF in place.parents for place in places):
            search_path.append("restoration", f"file://{CONF}")


Plugins.instance().register(SharedGroups)


def config_folder(config_name: str) -> Path:
    """Where a command's groups are: in a folder of its name if there is one, else in `CONF`.

    The folder is for a command whose groups have the names of others with other options, such as `experiment`.
    """
    return CONF / config_name if (CONF / config_name).is_dir() else CONF


def _check_experiment(folder: Path) -> None:
    """UserError if a command with experiments of its own is given one of another command."""
    name = HydraConfig.get().runtime.choices.get("experiment")
    own = sorted(file.stem for file in (folder / "experiment").glob("*.yaml"))
    if folder != CONF and name not in own and (CONF / "experiment" / f"{name}.yaml").is_file():
        raise UserError(f"experiment={name} is one of restoration.train; here: {', '.join(own)}")


def output_folder(folder: Path) -> Path:
    """Makes the folder if it is missing, before any work that would be lost. UserError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {folder} cannot be a folder ({error.strerror}); give another") from error
    return folder


def _check_place(arguments: list[str]) -> None:
    """UserError if run folders cannot be made. Hydra makes them before the task begins, and would show a traceback."""
    given = [word.partition("=")[2] for word in arguments if word.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
    place = Path(given[-1].strip("'\"") if given else "outputs").absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise UserError(f"{place} cannot be written; start in another folder, or give hydra.run.dir=FOLDER")


def user_message(error: BaseException) -> str | None:
    """The one line for the user, if the error is one that the user can fix; None for a programmer's error.

    A `UserError` anywhere in the chain of causes, an invalid config, and arguments that a library's constructor refuses
    are the user's. Any other exception inside a constructor or a step is not.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{link.filename or 'output'}: {reason(link)}; a stopped training continues with resume=auto"
        link = link.__cause__
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        target = lines[0].split("'")[1] if "'" in lines[0] else "config"
        refusal = _refusal(error.__cause__)
        return refusal and f"{target}: {refusal}"
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {lines[0]}" if error.full_key else lines[0]
    return lines[0] if isinstance(error, HydraException) else _refusal(error)


def _refusal(error: BaseException) -> str | None:
    """The error's first line if an object of the config refused its arguments: a wrong call, or a library's own check.

    None if a line of this package or of a user's code ran between Hydra's call and the error.
    """
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    calls = [number for number, file in enumerate(files) if file.is_relative_to(Path(hydra.__file__).parent)]
    inside = files[max(calls, default=0) + 1 :]
    library = all(_INSTALLED & set(file.parts) and not file.is_relative_to(_PACKAGE) for file in inside)
    refused = calls and library and isinstance(error, TypeError | ValueError | MisconfigurationException)
    return (str(error).splitlines() or [type(error).__name__])[0] if refused else None


def command(task: Callable[..., Any]) -> Callable[..., Any]:
    """A command's task: a user's error becomes one line on stderr and exit status 2, others keep their traceback.

    With a log file the traceback is in it too. HYDRA_FULL_ERROR=1 always shows everything. A job of a multirun raises
    `JobError` instead, so that the other jobs still run; SIGTERM ends with status 143, Ctrl-C with 130.
    """

    @functools.wraps(task)
    def run(*arguments: Any) -> Any:
        in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            with isolated() if in_sweep else nullcontext():
                return task(*arguments)
        except SIGTERMException as stop:
            if in_slurm_job():
                leave_to_slurm(*stop.args)
            sys.exit(143)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            message, full = user_message(error), os.environ.get("HYDRA_FULL_ERROR")
            if not in_sweep:
                if message is not None and not full:
                    print(f"error: {message}", file=sys.stderr)
                    sys.exit(2)
                if not (HydraConfig.initialized() and logging.getLogger().hasHandlers()):
                    raise
                log.critical("%s", type(error).__name__, exc_info=error)
                sys.exit(1)
            log.error(
                "job failed: %s", message or type(error).__name__, exc_info=None if message and not full else error
            )
            what = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}; the traceback is in its log"
            failure = JobError(message or what, 2 if message else 1)
        raise failure  # not from the error, whose frames keep the model

    return run


def hydra_command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Makes a command of a task that takes a config: strict keys, any Lightning key, errors as `command` shows them.

    What the task returns is what a sweeper optimises.

    Args:
        config_name: of the file in `conf/`.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def checked(config: DictConfig) -> Any:
            _check_experiment(config_folder(config_name))
            reference = reference_config()
            check_keys(config, reference)
            # Unresolved: some interpolations have their value only when the task has filled it in.
            needed, given = (OmegaConf.to_container(part, resolve=False) for part in (reference, config))
            values = dict(leaves(given))  # type: ignore[arg-type]
            for key, value in leaves(needed):  # type: ignore[arg-type]
                if value == "???" and values.get(key, value) is None:
                    raise UserError(f"{key}=null: a value is needed; give {key}=…")
            check_values(config)
            return task(config)

        folder = str(config_folder(config_name))
        composed = hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(command(checked))

        @functools.wraps(task)
        def main() -> None:
            sys.argv[1:] = allow_any_key(sys.argv[1:])
            if config_name in ("train", "pretrain"):
                command(_check_place)(sys.argv[1:])
            with sweep_end():
                composed()

        return main

    return decorate
