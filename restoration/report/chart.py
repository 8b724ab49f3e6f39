"""Line charts as places in a drawing, for a template that draws them as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 42, 14, 42
LABEL_HEIGHT, TICK_WIDTH = 12, 26
COLOURS, DASHES = 6, 4  # of style.css; together they tell 24 lines apart


@dataclass(frozen=True)
class Point:
    """A value; `low` and `high` are its interval, `label` stands beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""

    @property
    def ends(self) -> list[float]:
        return [self.y] if self.low is None or self.high is None else [self.low, self.y, self.high]


@dataclass(frozen=True)
class Line:
    """Points joined in their order. `mark` is the short name at the end of the line, `name` the one in words."""

    name: str
    mark: str
    points: Sequence[Point]
    number: int | None = None  # of the colour and the dashes; None is drawn grey, as a baseline


@dataclass(frozen=True)
class Chart:
    """A chart of one quantity.

    Args:
        title: with the unit and which direction is better.
        x_label: with the unit.
        lines: at least one, each of at least one point.
        doubling: the x axis shows powers of two at equal distances.
        values: whether the points are few enough for a table.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    doubling: bool = False
    values: bool = True

    def __post_init__(self) -> None:
        points = [point for line in self.lines for point in line.points]
        xs = [self._scaled(point.x) for point in points]
        object.__setattr__(self, "_x", _wider(min(xs), max(xs), 0.03))
        ends = [end for point in points for end in point.ends]
        object.__setattr__(self, "_y", _wider(min(ends), max(ends), 0.06))

    def _scaled(self, x: float) -> float:
        return math.log2(x) if self.doubling else x

    def x(self, value: float) -> float:
        """The horizontal place of a value, in units of the drawing."""
        low, high = self._x  # type: ignore[attr-defined]
        return round(LEFT + (self._scaled(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """The vertical place of a value, from the top."""
        low, high = self._y  # type: ignore[attr-defined]
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    @property
    def xs(self) -> list[float]:
        """The different x of all points, ascending."""
        return sorted({point.x for line in self.lines for point in line.points})

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """At the points themselves, if they are few; those too near to the one before have no tick."""
        places = [(self.x(value), f"{value:g}") for value in self.xs]
        if not self.doubling and (len(places) > 8 or not self.values):
            return [(self.x(value), text) for value, text in _ticks(*self._x)]  # type: ignore[attr-defined]
        kept = places[:1]
        for place in places[1:]:
            kept += [place] if place[0] - kept[-1][0] >= TICK_WIDTH else []
        return kept

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        return [(self.y(value), text) for value, text in _ticks(*self._y)]  # type: ignore[attr-defined]

    @property
    def marks(self) -> list[tuple[float, float, Line]]:
        """Place and line of each name at the end of a run's line; those that would overlap are moved apart."""
        ends = [(line.points[-1], line) for line in self.lines if line.number is not None]
        placed = sorted((self.y(point.y), self.x(point.x), line.mark, line) for point, line in ends)
        lowest = HEIGHT - BOTTOM - LABEL_HEIGHT * (len(placed) - 1)
        result: list[tuple[float, float, Line]] = []
        for number, (y, x, _, line) in enumerate(placed):
            above = result[-1][1] + LABEL_HEIGHT if result else TOP
            result.append((x + 7, round(min(max(y, above), lowest + LABEL_HEIGHT * number), 1), line))
        return result

    @property
    def description(self) -> str:
        """What the lines say, for those who do not see them."""
        said = [f"{len(self.lines)} lines over {self.x_label}."]
        for line in self.lines:
            first, last = line.points[0], line.points[-1]
            course = f"from {first.y:.4g} at {first.x:g} to {last.y:.4g} at {last.x:g}"
            said.append(f"{line.name}: {course if len(line.points) > 1 else f'{first.y:.4g} at {first.x:g}'}.")
        return " ".join(said)


def style(number: int | None) -> str:
    """The CSS classes of a line."""
    return "base" if number is None else f"c{number % COLOURS} d{number // COLOURS % DASHES}"


def _wider(low: float, high: float, share: float) -> tuple[float, float]:
    margin = share * (high - low) or share * abs(low) or share
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    values = [float(value) for value in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    decimals = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9) + 1)
    texts = [f"{value:.{decimals}f}" for value in values]
    while decimals and all(text.endswith("0") for text in texts):
        decimals -= 1
        texts = [text[:-1].removesuffix(".") for text in texts]
    return [(value, text) for value, text in zip(values, texts, strict=True) if low <= value <= high]
