"""Jobs of one process that do not see each other."""

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Of torch, for the whole process; a Trainer sets some of them.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
)


def free_memory() -> None:
    """Frees what the job before left. A failed job cannot do so itself: its error keeps its objects."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def isolated() -> Iterator[None]:
    """Undoes what a job changes in its process: environment, warning filters, signal handlers, settings of torch."""
    environment, settings = dict(os.environ), [read() for read, _ in _SETTINGS]
    cudnn = {name: getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic", "allow_tf32")}
    here = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if here}
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for (_, restore), value in zip(_SETTINGS, settings, strict=True):
            restore(value)
        for name, value in cudnn.items():
            setattr(torch.backends.cudnn, name, value)
        for number, handler in handlers.items():
            signal.signal(number, handler)
