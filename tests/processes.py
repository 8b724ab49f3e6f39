"""The train command in processes of its own.

They are forked from a server that has imported everything and run nothing: PyTorch refuses to fork a process that has
run autograd, as pytest's has after other tests.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from helpers import run_command

from restoration.train import main

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["processes"])


def start(
    folder: Path, command: Sequence[str], variables: Mapping[str, str] | None = None, output: str = "output.txt"
) -> BaseProcess:
    """Starts it in a folder, with its output added to a file there."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _context.Process(target=_run, args=(folder, list(command), dict(variables or {}), output))
    process.start()
    return process


def wait(*processes: BaseProcess) -> list[int | None]:
    """Their exit statuses; minus the signal's number for a killed one."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _run(folder: Path, command: list[str], variables: dict[str, str], output: str) -> None:
    os.chdir(folder)
    os.environ.update(variables)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = sys.stderr = os.fdopen(file, "w", buffering=1)
    sys.exit(run_command(main, *command))
