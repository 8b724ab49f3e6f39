"""One process per run folder."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restoration.checkpoint_file import reason
from restoration.errors import UserError
from restoration.run.hardware import first_process

log = logging.getLogger(__name__)

_held: set[int] = set()


def _release_in_child() -> None:
    """A forked worker may outlive a killed process. It must not keep the lock."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder. The kernel releases the lock at any end of the process.

    Only the first of several processes of a run takes the lock.

    Raises:
        UserError: another process has the lock; the folder cannot be written.
    """
    if not first_process():
        yield
        return
    handle = _lock(folder)
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {reason(error)}; choose another name=…") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
        os.close(handle)
        raise UserError(f"{folder} is in use by {holder}; wait for its end, or choose another name=…") from error
    except OSError as error:  # file systems without locks
        log.warning("%s cannot be locked (%s); start no second run in it", folder, error.strerror)
        return handle
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return handle
