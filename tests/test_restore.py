"""The restore command: what it writes, and what it says if it cannot. The kinds of files: test_picture.py."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_command
from PIL import Image
from torch import Tensor
from untouched import Noisy, Untouched, pixels

from restoration.flow.tiling import Tiles
from restoration.picture import read
from restoration.restore import Settings, Task, main, plan, restore_pictures
from restoration.restorer import Restored, Restorer
from restoration.sampler import Euler, Midpoint


def through(tmp_path: Path, source: Path, restorer: Restorer | None = None, **options) -> Image.Image:
    """The result for one file."""
    target = tmp_path / "restored" / f"{source.stem}.png"
    assert restore_pictures(restorer or Untouched(), [Task(source, source.name, target)], Settings(**options)) == {}
    return Image.open(target)


def test_a_large_image_shows_no_trace_of_its_tiles(tmp_path: Path):
    Image.fromarray(pixels(70, 150, 3)).save(tmp_path / "a.png")
    plain = through(tmp_path, tmp_path / "a.png", Noisy(), tiles=Tiles(200, 50))
    whole = np.asarray(plain).copy()
    tiled = np.asarray(through(tmp_path, tmp_path / "a.png", Noisy(), tiles=Tiles(32, 8, 3)))
    # Blending adds up weights in float32: a value on the edge between two levels may fall on either side.
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    assert (whole != pixels(70, 150, 3)).mean() > 0.9


def test_a_result_does_not_depend_on_the_other_files(tmp_path: Path):
    source = tmp_path / "photos"
    source.mkdir()
    for number, size in enumerate((16, 16, 24, 16)):
        Image.fromarray(pixels(size, 16, 3, seed=number)).save(source / f"{number}.png")
    outputs = {}
    for batch_size in (1, 3):
        tasks = plan(source, tmp_path / f"restored{batch_size}")
        assert restore_pictures(Noisy(), tasks, Settings(seed=5, tiles=Tiles(batch_size=batch_size))) == {}
        outputs[batch_size] = [np.asarray(Image.open(task.target)) for task in tasks]
    for alone, together in zip(outputs[1], outputs[3], strict=True):
        np.testing.assert_array_equal(alone, together)
    assert not np.array_equal(*[(read(task.target).image - read(task.source).image).numpy() for task in tasks[:2]])


def test_a_folder_keeps_its_tree_and_continues_after_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "photos"
    (source / "in" / "deep").mkdir(parents=True)
    Image.fromarray(pixels(8, 8, 3)).save(source / "a.jpg")
    Image.fromarray(pixels(8, 8, 3)).save(source / "a.webp")
    Image.fromarray(pixels(8, 8)).save(source / "in" / "deep" / "b.BMP")
    Image.fromarray(pixels(8, 8)).save(source / "in" / "c.gif")
    (source / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (source / "notes.txt").write_text("not a picture")
    (source / ".hidden.png").write_text("nor this")
    output = tmp_path / "restored"
    failures = restore_pictures(Untouched(), plan(source, output))
    assert capsys.readouterr().err == "files of other kinds are left out: 1 .txt\n"
    assert list(failures) == ["in/broken.png"] and "\n" not in failures["in/broken.png"]
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert written == ["a.jpg.png", "a.webp.png", "in/c.png", "in/deep/b.png"]


class Starved(Untouched):
    """Has memory for one small image at a time."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def restore(self, degraded: Tensor, *arguments, **options) -> Restored:
        if degraded.shape[0] * degraded.shape[2] > 16:
            raise self.error
        return super().restore(degraded, *arguments, **options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_skips_one_image(tmp_path: Path, error: Exception):
    for name, side in (("a", 16), ("b", 16), ("c", 24), ("d", 16)):
        Image.fromarray(pixels(side, 16, 3)).save(tmp_path / f"{name}.png")
    tasks = plan(tmp_path, tmp_path.with_name(f"{tmp_path.name}_restored"))
    failures = restore_pictures(Starved(error), tasks)
    assert list(failures) == ["c.png"] and failures["c.png"].startswith("out of memory at 16 x 24 pixels; use smaller")
    assert [task.name for task in tasks if task.target.exists()] == ["a.png", "b.png", "d.png"]
    with pytest.raises(RuntimeError, match="a bug"):
        restore_pictures(Starved(RuntimeError("a bug")), tasks)


def test_a_result_that_cannot_be_written_is_named(tmp_path: Path):
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    failures = restore_pictures(Untouched(), [Task(tmp_path / "a.png", "a.png", tmp_path / "file" / "a.png")])
    assert failures["a.png"].startswith("cannot write ") and "\n" not in failures["a.png"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image, and a file that is not a checkpoint."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels(8, 8, 3)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> int:
    """Runs the command; gives its exit status."""
    return run_command(main, "output=restored", *arguments)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["input=null"], "input=null: a value is needed; give input=…"),
        (["checkpoint=bad.ckpt"], "bad.ckpt is not a checkpoint"),
        (["checkpoint=bad.ckpt", "input=pictures"], "no input at pictures"),
        (["checkpoint=bad.ckpt", "tile=large"], "tile=large must be a whole number"),
        (["checkpoint=bad.ckpt", "tile=32", "overlap=24"], "overlap=24 must be at most half of tile=32"),
        (["checkpoint=bad.ckpt", "device=toaster"], "device=toaster cannot be used here"),
        *(
            (["checkpoint=bad.ckpt", f"overwrite={word}"], f"overwrite={word} must be true")
            for word in ("no", "flase", "1")
        ),
        *(
            (["checkpoint=bad.ckpt", f"max_megapixels={n}"], f"max_megapixels={n} must be".lower())
            for n in (0, -1, "all", True)
        ),
        (["checkpoint=bad.ckpt", "output=bad.ckpt"], "output bad.ckpt is a file"),
        (["sampler=euler", "sampler.warps=[1,2]"], "unknown key 'sampler.warps'; did you mean 'warp'?"),
    ],
)
def test_a_mistake_is_one_line(desk: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]):
    code = command("input=photos", *arguments)
    said = capsys.readouterr().err
    assert code == 2 and said.startswith(f"error: {complaint}") and said.count("\n") == 1
    assert sorted(path.name for path in desk.iterdir()) == ["bad.ckpt", "photos"]


def test_the_command_restores_what_it_can(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (desk / "photos" / "b.png").write_bytes(b"nothing")
    monkeypatch.setattr(Restorer, "load", lambda *_: Untouched())
    assert command("checkpoint=c", "input=photos") == 1
    said = capsys.readouterr()
    assert "skipped b.png: " in said.err and "\nrestored 1 of 2 images into restored" in said.out
    np.testing.assert_array_equal(np.asarray(Image.open("restored/a.png")), pixels(8, 8, 3))


def test_the_limit_of_megapixels_is_a_key(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(Restorer, "load", lambda *_: Untouched())
    assert command("checkpoint=c", "input=photos", "max_megapixels=0.00005") == 1
    assert (
        "skipped a.png: 8 x 8 pixels are 6.4e-05 megapixels, above max_megapixels=5e-05; raise"
        in capsys.readouterr().err
    )
    assert command("checkpoint=c", "input=photos", "max_megapixels=0.000064") == 0
    assert Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS > 1e6, "Pillow's own limit is as before"


def test_another_sampler_replaces_that_of_the_checkpoint(desk: Path, monkeypatch: pytest.MonkeyPatch):
    restorer = Untouched()
    monkeypatch.setattr(Restorer, "load", lambda *_: restorer)
    assert command("checkpoint=c", "input=photos", "sampler.keep=0") == 0
    assert isinstance(restorer.sampler, Euler) and (restorer.sampler.nfe, restorer.sampler.keep) == (1, 0)
    fitted = ["sampler=midpoint", "sampler.nfe=6", "sampler.warp=[1.1,3]", "sampler.keep=0"]
    assert command("checkpoint=c", "input=photos", "overwrite=true", *fitted) == 0
    sampler = restorer.sampler
    assert isinstance(sampler, Midpoint) and (sampler.nfe, sampler.warp, sampler.keep) == (6, (1.1, 3.0), 0)


@pytest.mark.slow
def test_the_command_runs_as_a_module(desk: Path):
    done = subprocess.run(
        [sys.executable, "-m", "restoration.restore", "checkpoint=none.ckpt", "input=photos", "output=restored"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no checkpoint at none.ckpt") and done.stderr.count("\n") == 1
    assert not (desk / "restored").exists() and not (desk / "outputs").exists()
