"""A folder of every kind of file: each is restored as a viewer shows it, or has one clear line; the rest goes on."""

import re
from collections import Counter
from pathlib import Path

import image_kinds
import numpy as np
import pytest
from helpers import run_command
from image_kinds import KINDS, make
from PIL import Image
from untouched import Untouched

from restoration.data.decode import read_image
from restoration.picture import printable
from restoration.restore import Settings, main, plan, restore_pictures
from restoration.restorer import Restorer


def check(result: np.ndarray, expected: image_kinds.Expected, name: str) -> None:
    if isinstance(expected, tuple):  # through a lossy format or a profile
        assert (
            np.abs(result.reshape(-1, result.shape[-1] if result.ndim == 3 else 1) - np.int64(expected)).max() <= 3
        ), name
    elif expected is not None:
        np.testing.assert_array_equal(result, expected, name)


def on_white(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257.0).round().astype(np.uint8))
    rgba = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB"), np.int64)


def test_every_kind_ends_restored_or_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    expected = make(tmp_path / "in")
    assert len(expected) >= 150
    before = {
        path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file() and path.name != "zero.png"
    }
    monkeypatch.setattr(Restorer, "load", lambda *_: Untouched())
    assert run_command(main, "checkpoint=c", "input=in", "output=out", "device=cpu") == 1
    assert {path: path.read_bytes() for path in before} == before

    said = capsys.readouterr()
    skipped = dict(
        line.removeprefix("skipped ").split(": ", 1) for line in said.err.splitlines() if line.startswith("skipped ")
    )
    written = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    targets = {task.name: task.target for task in plan(tmp_path / "in", tmp_path / "out", overwrite=True)}
    several = set()
    for name, result in expected.items():
        if isinstance(result, str) and not result:
            assert printable(name) not in targets and printable(name) not in skipped
        elif isinstance(result, str):
            reason = skipped.pop(printable(name))
            assert re.search(result, reason) and reason.isprintable() and len(reason) < 200, (name, reason)
        else:
            target = targets[printable(name)]
            assert target in written, (name, skipped.get(printable(name)))
            written.remove(target)
            with Image.open(target) as image:
                check(np.asarray(image), result, name)
                # Training sees the same pixels.
                if image.size == (image_kinds.SIDE, image_kinds.SIDE):
                    seen = read_image(tmp_path / "in" / name, image_kinds.SIDE)
                    assert np.abs(seen - on_white(image)).max() <= 1, name
            if f"{printable(name)}: only the first" in said.err:
                several.add(name)
    assert skipped == {} and written == set()
    assert several == {f"animated.{suffix}" for suffix in ("gif", "png", "webp", "avif")} | {"pages.tif"}
    images = sum(not isinstance(result, str) or bool(result) for result in expected.values())
    restored = sum(not isinstance(result, str) for result in expected.values())
    assert f"restored {restored} of {images} images into out" in said.out
    assert "Traceback" not in said.err and "Warning" not in said.err


def test_training_names_what_it_cannot_read(tmp_path: Path):
    for name, (content, result) in {**image_kinds.modes(), **image_kinds.failures()}.items():
        if isinstance(result, str):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=result if result else "not an image"):
                read_image(tmp_path / name, 16)


@pytest.mark.slow
def test_damaged_files_by_the_hundred(tmp_path: Path):
    """Bytes changed and files cut short at random: still an image or one line for each, never an end of the folder."""
    generator = np.random.default_rng(0)
    source = tmp_path / "in"
    source.mkdir()
    number = 0
    for group in KINDS.values():
        for name, (content, _) in group().items():
            for attempt in range(8 if content else 0):
                damaged = bytearray(content)
                if attempt % 4 == 3:
                    del damaged[generator.integers(len(damaged)) :]
                else:  # mostly in the header, where lengths and sizes are
                    end = min(len(damaged), 200) if attempt % 4 else len(damaged)
                    for place in generator.integers(end, size=1 + attempt):
                        damaged[place] = generator.integers(256)
                (source / f"{number}{Path(name).suffix or '.png'}").write_bytes(damaged)
                number += 1
    files = list(source.iterdir())
    assert len(files) == number >= 1000
    tasks = plan(source, tmp_path / "out")
    failed = restore_pictures(Untouched(), tasks, Settings(max_megapixels=4))
    outcome = Counter(task.target.is_file() for task in tasks)
    assert outcome == {True: len(tasks) - len(failed), False: len(failed)} and min(outcome.values()) > 100
    assert {task.name for task in tasks if not task.target.is_file()} == set(failed)
    assert all(reason and reason.isprintable() and len(reason) < 300 for reason in failed.values())
