"""How a stopped job leaves the next step to Slurm."""

import signal
from collections.abc import Iterator

import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException

from restoration.run.command import command


class KilledError(BaseException):
    """Stands for the SIGKILL at the end of the grace time."""


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that reach submitit's handler, which queues the job again."""

    def pause() -> None:
        raise KilledError

    found: list[int] = []
    monkeypatch.setattr(signal, "pause", pause)
    former = signal.signal(signal.SIGUSR2, lambda number, frame: found.append(number))
    yield found
    signal.signal(signal.SIGUSR2, former)


def stopped_by(number: int) -> None:
    raise SIGTERMException(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stopped_slurm_job_does_not_end_by_itself(number: int, queued: list[int], monkeypatch: pytest.MonkeyPatch):
    """It would count as failed. Before a time limit submitit gets its signal after the checkpoint."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with pytest.raises(KilledError):
        command(stopped_by)(number)
    assert queued == [signal.SIGUSR2] * (number == signal.SIGUSR2)


def test_elsewhere_it_ends_with_the_status_of_sigterm(queued: list[int]):
    with pytest.raises(SystemExit, match="143"):
        command(stopped_by)(signal.SIGTERM)
    assert queued == []
