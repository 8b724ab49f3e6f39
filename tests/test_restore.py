"""The restore command: what comes out of each kind of file, and what it says when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import blank_context, run_command
from PIL import Image
from torch import Tensor, nn

from restoration.backbone import Context
from restoration.errors import UserError
from restoration.restore import Task, main, plan, read, restore_pictures, write
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint


class Untouched(Restorer):
    """A flow that stands still on the degraded image: every file must come back as it was."""

    stride = 8  # type: ignore[assignment]
    noise = 0.0

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.anchor = nn.Parameter(torch.zeros(()))
        self.sampler = Euler(nfe=1)

    def encode(self, degraded: Tensor, start: tuple[Tensor, Tensor] | None = None) -> Context:
        y = self.to_model(degraded)
        return blank_context(y, start or (y, torch.full_like(y[:, :1], self.noise)))

    def field(self, context: Context):
        return lambda x_t, t: torch.zeros_like(x_t)


class Noisy(Untouched):
    noise = 0.1


def pixels(*shape: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def through(tmp_path: Path, source: Path, restorer: Restorer | None = None, **options) -> Image.Image:
    """The picture that comes back for one file."""
    target = tmp_path / "restored" / f"{source.stem}.png"
    assert restore_pictures(restorer or Untouched(), [Task(source, source.name, target)], **options) == {}
    return Image.open(target)


@pytest.mark.parametrize(
    "mode, shape",
    [("L", (13, 21)), ("RGB", (13, 21, 3)), ("LA", (13, 21, 2)), ("RGBA", (13, 21, 4))],
)
def test_a_png_comes_back_in_kind(tmp_path: Path, mode: str, shape: tuple[int, ...]):
    Image.fromarray(pixels(*shape)).save(tmp_path / "a.png")
    result = through(tmp_path, tmp_path / "a.png")
    assert result.mode == mode
    np.testing.assert_array_equal(np.asarray(result), pixels(*shape))


def test_sixteen_bit_grey_keeps_every_level(tmp_path: Path):
    levels = pixels(16, 24, dtype=np.uint16)
    for name in ("a.png", "b.tif"):
        Image.fromarray(levels).save(tmp_path / name)
        result = through(tmp_path, tmp_path / name)
        assert result.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(result), levels)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_converted(tmp_path: Path, mode: str):
    path = tmp_path / "a.tif"
    Image.fromarray(pixels(8, 8, 3)).convert(mode).save(path)
    expected = Image.open(path).convert("L" if mode == "1" else "RGB")
    result = through(tmp_path, path)
    assert result.mode == expected.mode
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def test_a_transparent_palette_keeps_its_alpha(tmp_path: Path):
    image = Image.fromarray(pixels(8, 8, 3)).quantize(4)
    image.save(tmp_path / "a.png", transparency=0)
    expected = Image.open(tmp_path / "a.png").convert("RGBA")
    assert 0 < (np.asarray(expected)[..., 3] == 0).mean() < 1
    np.testing.assert_array_equal(np.asarray(through(tmp_path, tmp_path / "a.png")), np.asarray(expected))


def test_exif_orientation_is_applied_once(tmp_path: Path):
    image = Image.fromarray(pixels(8, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    result = through(tmp_path, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(result), np.rot90(pixels(8, 16, 3), -1))
    assert 0x0112 not in result.getexif()


def test_a_large_picture_is_tiled_without_a_trace(tmp_path: Path):
    Image.fromarray(pixels(70, 150, 3)).save(tmp_path / "a.png")
    plain = through(tmp_path, tmp_path / "a.png", Noisy(), tile=200)
    whole = np.asarray(plain).copy()
    tiled = np.asarray(through(tmp_path, tmp_path / "a.png", Noisy(), tile=32, overlap=8, batch_size=3))
    # Blending adds up weights in float32: a value on the edge between two levels may fall on either side.
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    assert (whole != pixels(70, 150, 3)).mean() > 0.9


def test_a_result_does_not_depend_on_its_company(tmp_path: Path):
    source = tmp_path / "photos"
    source.mkdir()
    for number, size in enumerate((16, 16, 24, 16)):
        Image.fromarray(pixels(size, 16, 3, seed=number)).save(source / f"{number}.png")
    outputs = {}
    for batch_size in (1, 3):
        tasks = plan(source, tmp_path / f"restored{batch_size}")
        assert restore_pictures(Noisy(), tasks, seed=5, batch_size=batch_size) == {}
        outputs[batch_size] = [np.asarray(Image.open(task.target)) for task in tasks]
    for alone, together in zip(outputs[1], outputs[3], strict=True):
        np.testing.assert_array_equal(alone, together)
    assert not np.array_equal(*[(read(task.target).image - read(task.source).image).numpy() for task in tasks[:2]])


def test_a_folder_keeps_its_tree_and_goes_on_after_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
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
    assert capsys.readouterr().err == "left out files of other kinds: 1 .txt\n"
    assert list(failures) == ["in/broken.png"] and "\n" not in failures["in/broken.png"]
    written = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    assert written == ["a.jpg.png", "a.webp.png", "in/c.png", "in/deep/b.png"]


def test_plan_refuses(tmp_path: Path):
    source = tmp_path / "photos"
    source.mkdir()
    with pytest.raises(UserError, match="no pictures in"):
        plan(source, tmp_path / "restored")
    Image.fromarray(pixels(8, 8, 3)).save(source / "a.png")
    with pytest.raises(UserError, match="no input at"):
        plan(tmp_path / "pictures", tmp_path / "restored")
    for inside in (source, source / "restored"):
        with pytest.raises(UserError, match="inside the input"):
            plan(source, inside)
    with pytest.raises(UserError, match=r"output new.jpg: pictures are written as PNG; give new.png, or a folder"):
        plan(source / "a.png", Path("new.jpg"))
    with pytest.raises(UserError, match="would replace the input"):
        plan(source / "a.png", source, overwrite=True)
    (task,) = plan(source, tmp_path / "restored")
    write(task.target, read(task.source))
    with pytest.raises(UserError, match="already there: .*a.png; add overwrite=true"):
        plan(source, tmp_path / "restored")
    assert plan(source, tmp_path / "restored", overwrite=True) == [task]
    (single,) = plan(source / "a.png", tmp_path / "other.png")
    assert single.target == tmp_path / "other.png"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one picture, and a file that is no checkpoint."""
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
        ([], "checkpoint= is missing; for example checkpoint="),
        (["checkpoint=bad.ckpt"], "bad.ckpt is not a checkpoint"),
        (["checkpoint=bad.ckpt", "input=pictures"], "no input at pictures"),
        (["checkpoint=bad.ckpt", "tile=large"], "tile=large must be a whole number"),
        (["checkpoint=bad.ckpt", "tile=32", "overlap=24"], "overlap=24 must be at most half of tile=32"),
        (["checkpoint=bad.ckpt", "device=toaster"], "device=toaster cannot be used here"),
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
    own = {"sampler": {"_target_": "restoration.sampler.Euler", "nfe": 1}}
    monkeypatch.setattr(Restorer, "load_with_config", lambda *_: (Untouched(), own))
    assert command("checkpoint=c", "input=photos") == 1
    said = capsys.readouterr()
    assert "skipped b.png: " in said.err and said.out.startswith("restored 1 of 2 pictures into restored")
    np.testing.assert_array_equal(np.asarray(Image.open("restored/a.png")), pixels(8, 8, 3))


def test_another_sampler_takes_the_place_of_the_checkpoints(desk: Path, monkeypatch: pytest.MonkeyPatch):
    restorer, own = Untouched(), {"sampler": {"_target_": "restoration.sampler.Euler", "nfe": 1}}
    monkeypatch.setattr(Restorer, "load_with_config", lambda *_: (restorer, own))
    assert command("checkpoint=c", "input=photos", "sampler.keep=0") == 0
    assert isinstance(restorer.sampler, Euler) and (restorer.sampler.nfe, restorer.sampler.keep) == (1, 0)
    fitted = ["sampler=midpoint", "sampler.nfe=6", "sampler.warp=[1.1,3]", "sampler.keep=0"]
    assert command("checkpoint=c", "input=photos", "overwrite=true", *fitted) == 0
    sampler = restorer.sampler
    assert isinstance(sampler, Midpoint) and (sampler.nfe, sampler.warp, sampler.keep) == (6, (1.1, 3.0), 0)


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
