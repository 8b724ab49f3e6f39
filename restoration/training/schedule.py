"""The learning rate over a stage of training."""

import math

from restoration.errors import Share


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
