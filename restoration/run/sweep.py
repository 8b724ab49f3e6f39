"""Sweeps: names of jobs, one failure at a time, and the table at the end.

Jobs may run in other processes. What the table needs is in a small file in each job's folder.
"""

import copy
import hashlib
import json
import re
import secrets
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.table import Table
from rich.text import Text

from restoration.errors import UserError
from restoration.report.folder import find
from restoration.report.repeats import print_repeats
from restoration.report.table import print_wide, show

_LONGEST = 120  # characters of a job's name


class JobError(Exception):
    """A job of a sweep failed. The message is the reason in one line.

    Args:
        reason: as for the user.
        status: the exit status that the job alone would have had.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason, status)
        self.reason, self.status = reason, status

    def __str__(self) -> str:
        return self.reason


def job_name(overrides: Iterable[str], constant: Sequence[str]) -> str:
    """The folder of a job, from its overrides: `corruption.strength=0.25,seed=0`.

    The order of the command line does not matter. Characters that are unsafe in file names become `_`; such names, and
    long ones after a cut, end with a hash of the whole.

    Args:
        overrides: of the job.
        constant: keys that are the same for all jobs.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    words = {override.get_key_element().lstrip("+"): override.get_value_element_as_str() for override in parsed}
    whole = ",".join(sorted(f"{key}={value}" for key, value in words.items() if key not in constant))
    safe = re.sub(r"[^\w.,=+@\[\]-]", "_", whole, flags=re.ASCII)
    if safe != whole or len(safe) > _LONGEST:
        safe = f"{safe[:_LONGEST]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return safe or "0"


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def repeated(name: str) -> str:
    """The arguments of this process, with the name and `resume=auto`."""
    words = [word.removeprefix("++") for word in sys.argv[1:] if not word.startswith("resume=")]
    named = any(word.startswith("name=") for word in words)
    return shlex.join([*words, *([] if named else [f"name={name}"]), "resume=auto"])


class SweepTable(Callback):
    """Ends a multirun with its results side by side, what became of every job, and an exit status.

    The status is 0 if all jobs are done, 2 if all failures were the user's, else 1. With Hydra's own sweeper, a failed
    job does not raise. Other sweepers receive its error.
    """

    current: ClassVar["SweepTable | None"] = None  # of the sweep that this process started

    def __init__(self) -> None:
        self.sweep = secrets.token_hex(4)  # this start of it

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tells every job which overrides name it, in this process and in others."""
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        params = OmegaConf.to_container(config.hydra.sweeper).get("params") or {}  # type: ignore[union-attr]
        given = [f"{key}={value}" for key, value in params.items()]
        words: Any = OmegaConf.to_container(config.hydra.overrides.task)  # interpolations stay text
        parsed = parser.parse_overrides([*given, *words])
        constant = {override.get_key_element().lstrip("+") for override in parsed if not override.is_sweep_override()}
        names = config.hydra.job.config.override_dirname
        with read_write(config.hydra), open_dict(config.hydra):
            names.exclude_keys = sorted({*names.exclude_keys, *constant} - {key.lstrip("+") for key in params})
            excluded = ",".join(f"'{key}'" for key in names.exclude_keys)
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]")
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.command, self.arguments = config.hydra.job.name, repeated(str(config.name))
        self.jobs: list[Path] = []
        if _basic(config):
            (batch,) = BasicSweeper.split_arguments(parsed, None)
            self.jobs = list(_folders(config, batch))
        SweepTable.current = self

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            folder = Path(config.hydra.runtime.output_dir)
            self._write(folder, state="running", evaluated=_evaluated(folder))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        failure = job_return._return_value if job_return.status == JobStatus.FAILED else None
        if failure is not None and _basic(config):
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        folder = Path(config.hydra.runtime.output_dir)
        if failure is not None:
            self._write(folder, state="failed", reason=str(failure), status=getattr(failure, "status", 1))
        else:
            before = _note(folder).get("evaluated")
            self._write(folder, state="done before" if before and before == _evaluated(folder) else "done")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if status := self.end():
            sys.exit(status)

    def end(self) -> int:
        """Prints the tables; gives the exit status."""
        SweepTable.current = None
        states = {folder: self._state(folder) for folder in self.jobs or _below(self.folder)}
        with suppress(UserError):  # no results
            done = find(folder for folder, (state, _, _) in states.items() if state.startswith("done"))
            show(done)
            print_repeats(done)
        table = Table("job", "state")
        for folder, (state, reason, _) in states.items():
            table.add_row(Text(folder.name), Text(f"{state}: {reason}" if reason else state))
        print_wide(table)
        counts = Counter(state for state, _, _ in states.values())
        print(f"{len(states)} jobs: {', '.join(f'{number} {state}' for state, number in counts.items())}")
        failures = {status for _, _, status in states.values() if status}
        if failures:
            print(f"continue with: python -m restoration.{self.command} {self.arguments}")
        return 0 if not failures else 2 if failures == {2} else 1

    def _write(self, folder: Path, **note: Any) -> None:
        part = folder / "job.json.part"
        part.write_text(json.dumps({"sweep": self.sweep, **note}) + "\n")
        part.replace(folder / "job.json")

    def _state(self, folder: Path) -> tuple[str, str, int]:
        """(state, reason, exit status) of a job."""
        note = _note(folder)
        state = note.get("state", "running")
        if note.get("sweep") != self.sweep:
            return ("done before", "", 0) if state.startswith("done") and _evaluated(folder) else ("not started", "", 1)
        # A running job is one that was stopped, or that another machine has not ended.
        return ("not finished", "", 1) if state == "running" else (state, note.get("reason", ""), note.get("status", 0))


def _basic(config: DictConfig) -> bool:
    return str(config.hydra.sweeper._target_).endswith(".BasicSweeper")


def _folders(config: DictConfig, batch: list[list[str]]) -> Iterator[Path]:
    """The run folders of jobs that set the same keys, without composing their configs."""
    str(config.hydra.sweep.dir)  # a time in it is that of the sweep
    job = copy.deepcopy(config)
    choices = job.hydra.runtime.choices
    with read_write(job.hydra), open_dict(job):
        for number, overrides in enumerate(batch):
            for override in OverridesParser.create().parse_overrides(overrides):
                if (key := override.key_or_group) in choices:
                    choices[key] = override.get_value_element_as_str()
                elif not isinstance(value := override.value(), dict):  # one may refer to what only a job has
                    OmegaConf.update(job, key, value, force_add=True)
            # Interpolations stay text: most exist in a job only.
            job.hydra.overrides.task = [word.replace("${", "\\${") for word in overrides]
            job.hydra.job.num = number
            yield Path(job.hydra.sweep.dir, str(job.hydra.sweep.subdir)).absolute()


def _below(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("job.json"))


def _note(folder: Path) -> dict[str, Any]:
    """What a job left in its folder; empty if there is nothing."""
    try:
        return dict(json.loads((folder / "job.json").read_text()))
    except (OSError, ValueError):
        return {}


def _evaluated(folder: Path) -> int | None:
    """When the job's evaluation was written."""
    path = folder / "metrics.json"
    return path.stat().st_mtime_ns if path.exists() else None


@contextmanager
def sweep_end() -> Iterator[None]:
    """A multirun that is stopped, or ended by an error, still shows its table and the line that continues it."""
    try:
        yield
    except KeyboardInterrupt:  # between two jobs, or while other processes run them
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        if SweepTable.current is not None:
            SweepTable.current.end()
