"""The one error that is addressed to a person, and the ranges whose violation it reports."""

import math
from dataclasses import dataclass
from typing import Annotated, Any


class UserError(ValueError):
    """A mistake in the user's config or input. Its message is one line: what was wrong, and what to do.

    Commands show it without a traceback. Every other exception is a bug and keeps its traceback.
    """


@dataclass(frozen=True)
class Range:
    """Bounds of a number in a config, as an annotation; the lower one is excluded if `above`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.above:
            return f"above {self.low:,}" + (f", at most {self.high:,}" if self.high < math.inf else "")
        return f"from {self.low:,} " + (f"to {self.high:,}" if self.high < math.inf else "up")


Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Count = Annotated[int, Range(1)]
NFE = Annotated[int, Range(1, 1000)]
Width = Annotated[int, Range(1, 4096)]


def whole_number(name: str, value: Any, least: int) -> int:
    """The value, where it is a whole number from `least` up; UserError by its name otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} must be a whole number, at least {least}")
    return value
