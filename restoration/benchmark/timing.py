"""Timing in turns, and counting of operations and of memory."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


def measure(
    calls: Sequence[Callable[[], object]], rounds: int, device: str, slow: float | None = None, wall: bool = False
) -> list[list[float]]:
    """Seconds of each call in each round; the calls take turns, and a first round does not count.

    On one thread of a CPU the process's own time is measured: other processes then disturb less.

    Args:
        calls: what to time.
        rounds: how often.
        device: "cpu" or "cuda".
        slow: a call whose first round takes longer than so many seconds is not repeated; that round counts.
        wall: the clock on the wall in any case, for calls that start processes.
    """
    own = device == "cpu" and torch.get_num_threads() == 1 and not wall
    clock = time.process_time if own else time.perf_counter
    seconds: list[list[float]] = [[] for _ in calls]
    finished: set[int] = set()  # the slow ones
    for number in range(rounds + 1):
        for place, (call, times) in enumerate(zip(calls, seconds, strict=True)):
            if place in finished:
                continue
            began = clock()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            took = clock() - began
            if number == 0 and slow is not None and took > slow:
                finished.add(place)
            if number or place in finished:
                times.append(took)
    return seconds


def operations(call: Callable[[], object]) -> int:
    """Floating-point operations of the call: two for each multiplication with addition."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def kept(call: Callable[[], object], network: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass of a call, each storage once, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(storage.nbytes() for storage in storages.values())


def autocast(device: str, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Autocast of this type; float32 without one."""
    return nullcontext() if dtype is None else torch.autocast(device, dtype)
