"""What a long job says about its progress, and that a short one says nothing."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from untouched import Untouched, pixels

from restoration.flow.tiling import Tiles
from restoration.restore import Settings, plan, restore_pictures
from restoration.run import progress as module
from restoration.run.progress import progress


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_without_a_terminal_a_long_job_says_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]):
    with progress("restoring", 4) as done:
        done(0)
        for number in (0.1, 0.2, 0.5):
            clock.now += 25
            done(number)
        clock.now += 30
        done(1)
        clock.now += 60
        done(2)
    said = capsys.readouterr()
    # 0.5 of 4 in 75 s leave 525 s; 2 of 4 in 165 s leave as many.
    assert said.err == "restoring: 12% of 4, 9 minutes left\nrestoring: 50% of 4, 3 minutes left\n" and not said.out


def test_without_a_terminal_a_short_job_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]):
    with progress("restoring", 2) as done:
        for number in (0, 1, 2):
            clock.now += 15
            done(number)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(module, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True, width=100))
    with progress("restoring", 3) as done:
        done(1.5)
    said = capsys.readouterr()
    assert not said.out and "restoring" in said.err and " 50%" in said.err and "1/3" in said.err


@pytest.mark.parametrize("nfe", [1, 3])
def test_the_tiles_of_a_large_image_are_told_at_every_evaluation(nfe: int):
    """Three batches of tiles make the start, and three each evaluation."""
    told: list[float] = []
    degraded = torch.rand(1, 3, 64, 192)
    Untouched().restore(degraded, torch.arange(1), nfe, tiles=Tiles(64, 0, 1), progress=told.append)
    batches = 3 * (nfe + 1)
    assert told == pytest.approx([number / batches for number in range(1, batches + 1)])
    Untouched().restore(degraded[..., :64], torch.arange(1), nfe, tiles=Tiles(64, 0, 1), progress=told.append)
    assert len(told) == batches, "an image of one tile has no parts"


def test_images_and_their_parts_are_told_together(tmp_path: Path):
    """The first of several images too, and one that cannot be read."""
    for name, size in (("a", (64, 128)), ("b", (16, 16)), ("d", (16, 16))):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels(*size, 3)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_bytes(b"nothing")
    tasks, told = sorted(plan(tmp_path / "in", tmp_path / "out"), key=lambda task: task.name), []
    failures = restore_pictures(Untouched(), tasks, Settings(1, tiles=Tiles(64, 0, 1)), told.append)
    assert list(failures) == ["c.png"]
    assert told[:5] == [0, 0.25, 0.5, 0.75, 1] and told[-1] == 4 and told == sorted(told)
