"""Learning-rate schedules over a stage of training."""

import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """A factor on the peak learning rate, with a linear warm-up.

    Args:
        warmup: share of the stage.
    """

    def __init__(self, warmup: float = 0.03) -> None:
        self.warmup = warmup

    def __call__(self, step: int, steps: int) -> float:
        """The factor, in [0, 1], at a step (from 0) of a stage of so many steps."""
        warmup = max(1, round(self.warmup * steps))
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(min(1.0, (step - warmup) / max(1, steps - warmup)))

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor at a progress in [0, 1]."""


class Constant(Schedule):
    """The peak learning rate throughout."""

    def after_warmup(self, progress: float) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from the peak to a share of it (Loshchilov & Hutter 2017, "SGDR").

    Args:
        warmup: as in `Schedule`.
        final: the factor at the end.
    """

    def __init__(self, warmup: float = 0.03, final: float = 0.02) -> None:
        super().__init__(warmup)
        self.final = final

    def after_warmup(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
