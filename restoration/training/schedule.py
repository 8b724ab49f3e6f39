"""The learning rate over a stage of training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

from restoration.errors import Range, Share

Part = Annotated[float, Range(0, 1, above=True)]
Cycles = Annotated[int, Range(1, 100)]


class Cosine:
    """Half a cosine from the peak to a share of it, after a linear warm-up (Loshchilov & Hutter 2017, "SGDR").

    Args:
        warmup: share of the stage.
        final: the factor at the end; 1 keeps the peak.
    """

    def __init__(self, warmup: Share = 0.03, final: Share = 0.02) -> None:
        self.warmup = warmup
        self.final = final

    def __call__(self, step: int, steps: int) -> float:
        """The factor on the peak learning rate, in [0, 1], at a step (from 0) of a stage of so many steps."""
        warmup = max(1, round(self.warmup * steps))
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


class TorchSchedule(ABC):
    """The factors of a scheduler of torch, as a table: a resumed or lengthened run reads them like any other.

    Only the learning rate follows it, not the momentum. A table takes some ten microseconds a step, once.
    """

    def __init__(self) -> None:
        self._tables: dict[int, list[float]] = {}

    @abstractmethod
    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """torch's scheduler of an optimiser whose learning rate is 1, for so many steps."""

    def __call__(self, step: int, steps: int) -> float:
        """The factor on the peak learning rate, in [0, 1], at a step (from 0) of a stage of so many steps."""
        if steps not in self._tables:
            optimizer = SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
            scheduler = self.scheduler(optimizer, steps)
            self._tables[steps] = table = []
            for _ in range(steps):
                table.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
        return self._tables[steps][min(step, steps - 1)]


def _warm_up(optimizer: Optimizer, steps: int) -> LRScheduler:
    """The linear warm-up of `Cosine`."""
    return LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


class OneCycle(TorchSchedule):
    """Up and down once (Smith & Topin 2019, "Super-convergence").

    Args:
        rise: share of the stage in which the rate rises.
        start: the factor at the start.
        final: the factor at the end.
    """

    def __init__(self, rise: Share = 0.3, start: Part = 0.04, final: Part = 4e-6) -> None:
        super().__init__()
        self.rise, self.start, self.final = rise, start, final

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=max(8, steps + 1),  # it refuses a step after the last; fewer have no room for both phases
            pct_start=float(self.rise),
            div_factor=1 / self.start,
            final_div_factor=self.start / self.final,
            cycle_momentum=False,
        )


class MultiStep(TorchSchedule):
    """Falls by a factor at each milestone, after a linear warm-up.

    Args:
        milestones: shares of the stage, ascending.
        gamma: the factor.
        warmup: share of the stage.
    """

    def __init__(self, milestones: Sequence[Share] = (0.5, 0.75), gamma: Share = 0.1, warmup: Share = 0.03) -> None:
        super().__init__()
        self.milestones, self.gamma, self.warmup = list(milestones), gamma, warmup

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        places = [round(share * steps) for share in self.milestones]
        rise = _warm_up(optimizer, max(1, round(self.warmup * steps)))
        return ChainedScheduler([rise, MultiStepLR(optimizer, places, self.gamma)], optimizer)


class WarmRestarts(TorchSchedule):
    """Cosines from the peak, after a linear warm-up (Loshchilov & Hutter 2017, "SGDR"); the last ends the stage.

    Args:
        cycles: how many.
        growth: the length of each, in lengths of the one before.
        warmup: share of the stage.
        final: the factor at the end of each.
    """

    def __init__(self, cycles: Cycles = 3, growth: Cycles = 2, warmup: Share = 0.03, final: Share = 0.0) -> None:
        super().__init__()
        self.cycles, self.growth, self.warmup, self.final = cycles, growth, warmup, final

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        warmup = max(1, round(self.warmup * steps))
        first = max(1, math.ceil((steps - warmup) / sum(self.growth**cycle for cycle in range(self.cycles))))
        restarts = CosineAnnealingWarmRestarts(optimizer, first, self.growth, self.final)
        return SequentialLR(optimizer, [_warm_up(optimizer, warmup), restarts], [warmup])
