"""How far a long job is: a bar on a terminal, elsewhere a line a minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

# Seconds between two lines, and before the first one.
INTERVAL = 60.0


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """On stderr, with the time that is left. A job of less than a minute says nothing where there is no terminal.

    Args:
        what: is done, for a person.
        total: number of things to do.

    Yields:
        What takes the number of things done, which may be a fraction.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task, begin = bar.add_task(what, total=total), time.monotonic()
        said = begin

        def done(number: float) -> None:
            nonlocal said
            bar.update(task, completed=number)
            now = time.monotonic()
            if not console.is_terminal and number and now - said >= INTERVAL:
                said, left = now, (now - begin) * (total - number) / number
                console.print(f"{what}: {number / total:.0%} of {total}, {left / 60:.0f} minutes left", highlight=False)

        yield done
