"""Tables of the networks: training steps, restorations, growth with the size, images per second with the batch."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from restoration.benchmark.contenders import INSTALL, Contender
from restoration.benchmark.page import Figures
from restoration.benchmark.settings import Settings
from restoration.benchmark.timing import kept, measure, operations

_MATMUL = 2048  # side of the matrices whose product is the peak of MFU


def table(title: str, text: str, rivals: list[Contender], size: int = 0) -> Figures:
    """A row for each contender, with its parameters and GMAC at this size, or with how to install it."""
    rows: list[dict[str, Any]] = []
    for rival in rivals:
        if rival.network is None:
            rows.append({"contender": f"{rival.name}: not installed, `{INSTALL}`"})
        else:
            rows.append({"contender": rival.name, "derived": [], **(rival.facts(size) if size else {})})
    return Figures(title, text, rows)


def timed(calls: dict[int, Callable[[], object]], settings: Settings) -> dict[int, float]:
    """Median seconds of calls that take turns, by their keys."""
    seconds = measure(list(calls.values()), settings.rounds, settings.device, settings.slow)
    return {key: statistics.median(times) for key, times in zip(calls, seconds, strict=True)}


def put(figures: Figures, column: str, values: dict[int, float | None], ratio: bool = True) -> None:
    """A column of values by row, and the ratio to the first row's."""
    for number, value in values.items():
        figures.rows[number][column] = value
        if ratio:
            first = values[0]
            figures.rows[number][f"{column}: ratio"] = value / first if value and first else None


def present(rivals: list[Contender]) -> list[int]:
    return [number for number, rival in enumerate(rivals) if rival.network is not None]


def by_batch(
    figures: Figures,
    rivals: list[Contender],
    sizes: tuple[int, ...],
    make: Callable[[Contender, int], Callable[[], object]],
    settings: Settings,
) -> dict[int, dict[int, float]]:
    """Seconds per batch by size and row; what would take longer than the limit is multiplied from the size before."""
    found: dict[int, dict[int, float]] = {}
    for place, batch in enumerate(sizes):
        last = sizes[place - 1] if place else batch
        before = {key: value * batch / last for key, value in found.get(last, {}).items()}
        calls = {
            number: make(rivals[number], batch)
            for number in present(rivals)
            if before.get(number, 0.0) <= settings.limit
        }
        found[batch] = before | timed(calls, settings)
        for number in set(before) - set(calls):
            figures.rows[number]["derived"].append(f"batch {batch}, ms")
    return found


def training(rivals: list[Contender], settings: Settings) -> Figures:
    """Forward and backward of all parameters, and the share of the arithmetic peak."""
    sizes = (2,) if settings.smoke else (8, 64, 512) if settings.device == "cuda" else (8, 64)
    text = (
        f"{settings.pixels}: forward and backward of all parameters, without an optimiser, per batch. MFU is the "
        f"share of the speed of a product of {_MATMUL} x {_MATMUL} matrices in the same precision, timed just "
        "before."
    )
    figures = table("Training step", text, rivals, settings.side)
    side = 256 if settings.smoke else _MATMUL
    dtype = torch.float32 if settings.precision == "32-true" else torch.bfloat16
    left, right = (torch.randn(side, side, device=settings.device, dtype=dtype) for _ in range(2))
    peak = 2 * side**3 / timed({0: lambda: left @ right}, settings)[0]
    found = by_batch(figures, rivals, sizes, lambda rival, batch: rival.step(settings.side, batch), settings)
    for batch in sizes:
        put(figures, f"batch {batch}, ms", {key: 1000 * value for key, value in found[batch].items()})
    for number in present(rivals):
        counted = operations(rivals[number].step(settings.side, 2)) / 2
        figures.rows[number]["MFU"] = counted * sizes[0] / found[sizes[0]][number] / peak
    if settings.compile:
        _compiled(figures, rivals, sizes[0], settings)
    return figures


def _compiled(figures: Figures, rivals: list[Contender], batch: int, settings: Settings) -> None:
    """Columns of the compiled step; what compiles is the backbone of ours, and the whole network of others."""
    calls = {}
    for number in present(rivals)[:-1]:
        network: Any = rivals[number].network
        getattr(network, "backbone", network).compile()
        calls[number] = rivals[number].step(settings.side, batch)
        first = measure([calls[number]], 0, settings.device, slow=0.0)[0][0]
        figures.rows[number]["compiling, s"] = first
    found = timed(calls, settings)
    for number in calls:
        network = rivals[number].network
        getattr(network, "backbone", network)._compiled_call_impl = None  # later tables are eager
    put(figures, f"compiled, batch {batch}, ms", {key: 1000 * value for key, value in found.items()})


def sampling(rivals: list[Contender], settings: Settings) -> Figures:
    """Restorations of several numbers of evaluations."""
    counts, sizes = ((1, 2), (1,)) if settings.smoke else ((1, 2, 4, 8, 100), (1, 64))
    text = (
        f"{settings.pixels}, milliseconds per batch. Of other packages one evaluation is timed and multiplied. Of "
        "ours, all but 100 evaluations are timed; those are the first and 99 times the mean of the seven after it. The "
        "ratio is of 100 evaluations."
    )
    figures = table("Restoring", text, rivals, settings.side)
    for batch in sizes:
        _sample(figures, rivals, counts, batch, settings)
    return figures


def _sample(figures: Figures, rivals: list[Contender], counts: tuple[int, ...], batch: int, settings: Settings) -> None:
    direct = [count for count in counts if count <= 8]
    found: dict[int, dict[int, float | None]] = {count: {} for count in counts}
    for count in direct:
        calls = {}
        for number in present(rivals):
            row, rival = figures.rows[number], rivals[number]
            column = f"batch {batch}, NFE {count}"
            alone = row.get(f"batch 1, NFE {count}")
            if rival.repeats and count > 1:
                first = found[1][number]
                found[count][number] = None if first is None else first * count
                row["derived"].append(column)
            elif batch > 1 and alone is not None and alone / 1000 * batch > settings.limit:
                found[count][number] = alone / 1000 * batch
                row["derived"].append(column)
            else:
                calls[number] = rival.restoring(settings.side, batch, count)
        found[count] |= timed(calls, settings)
    for number in present(rivals):
        first, last, many = found[1][number], found[direct[-1]][number], counts[-1]
        if many not in direct and first is not None and last is not None:
            further = (last - first) / (direct[-1] - 1)
            found[many][number] = first + (many - 1) * further
            figures.rows[number]["derived"].append(f"batch {batch}, NFE {many}")
    for count in counts:
        values = {key: None if value is None else 1000 * value for key, value in sorted(found[count].items())}
        put(figures, f"batch {batch}, NFE {count}", values, ratio=count == counts[-1])


def growth(rivals: list[Contender], settings: Settings) -> Figures:
    """Time and memory of a training step of one image, per pixel."""
    sizes = (64,) if settings.smoke else (64, 128, 256, 512)
    text = (
        "A training step of one image: microseconds per pixel, and kilobytes per pixel that autograd keeps for the "
        "backward pass. Constant rows grow as the number of pixels does."
    )
    figures = table("Growth with the size", text, rivals)
    before: dict[int, float] = {}
    for size in sizes:
        calls = {
            number: rivals[number].step(size, 1)
            for number in present(rivals)
            if 4 * before.get(number, 0.0) <= settings.limit and (size == sizes[0] or number in before)
        }
        before = timed(calls, settings)
        put(figures, f"{size} px, µs", {key: 1e6 * value / size**2 for key, value in before.items()}, ratio=False)
        for number, call in calls.items():
            network = rivals[number].network
            assert network is not None
            figures.rows[number][f"{size} px, kB"] = kept(call, network) / size**2 / 1000
    return figures


def batches(rivals: list[Contender], settings: Settings) -> Figures:
    """Images per second, one evaluation each."""
    sizes = (1, 2) if settings.smoke else (1, 4, 16, 64, 256) if settings.device == "cuda" else (1, 4, 16, 64)
    text = f"{settings.pixels}, one evaluation: restored images per second."
    figures = table("Images per second", text, rivals)
    found = by_batch(figures, rivals, sizes, lambda rival, batch: rival.restoring(settings.side, batch, 1), settings)
    for batch in sizes:
        put(figures, f"batch {batch}", {key: batch / value for key, value in found[batch].items()}, ratio=False)
    for row in figures.rows:
        row["derived"] = [column.removesuffix(", ms") for column in row.get("derived", [])]
    return figures
