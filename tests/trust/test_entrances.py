"""A checkpoint is data: what crafted files name is refused in one line at every entrance, and nothing of it runs."""

import contextlib
import copy
import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hostile
import pytest
from helpers import TINY, complaint, composed, run_command
from hostile import refusal
from hostile_configs import restorer
from PIL import Image

import restoration.evaluate
import restoration.restore
import restoration.train
import restoration.tune
from restoration.checkpoint_file import read_checkpoint
from restoration.restorer import Restorer
from restoration.trust import check_targets


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    return hostile.crafted(tmp_path_factory.mktemp("hostile"))


Open = Callable[[Path], object]


@contextmanager
def entrance(name: str, folder: Path) -> Iterator[Open]:
    """What opens a checkpoint by that command, without composing its config again for each."""
    (folder / "checkpoints").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    if name == "load":
        yield Restorer.load
        return
    own = {
        "restore": [f"input={folder / 'a.png'}", f"output={folder / 'new'}", "device=cpu"],
        "evaluate": [f"output={folder / 'new'}", "device=cpu"],
        "tune": ["device=cpu"],
        "resume": ["experiment=blur_erase", *TINY, f"folder={folder}", "resume=true"],
        "source": ["experiment=blur_erase", *TINY, f"folder={folder}", "source=posterior_mean"],
    }[name]
    command = {"resume": restoration.train, "source": restoration.train}.get(name) or getattr(restoration, name)
    with composed("train" if command is restoration.train else name, *own) as config:

        def act(path: Path) -> object:
            now = copy.deepcopy(config)
            if name == "resume":
                shutil.copy(path, folder / "checkpoints" / "last.ckpt")
            elif name == "source":
                now.source.restorer.path = str(path)
            else:
                now.checkpoint = str(path)
            return restoration.train.train(now) if command is restoration.train else command.main.__wrapped__(now)

        yield act


ENTRANCES = ["load", "restore", "evaluate", "tune", "resume", "source"]


@pytest.mark.parametrize("name", ENTRANCES)
def test_every_crafted_file_is_refused_in_one_line(name: str, files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crafted, canary = files
    monkeypatch.syspath_prepend(str(canary.parent))
    with entrance(name, tmp_path / "run") as act:
        for kind, path in crafted.items():
            message = refusal(functools.partial(act, path))
            assert path.name in message or "last.ckpt" in message, (kind, message)
            if kind in hostile.TARGETS:
                assert "nothing was executed" in message, (kind, message)
            assert not canary.exists(), kind
    assert "planted" not in sys.modules
    assert not (tmp_path / "run" / "new").exists()


@pytest.mark.parametrize("name", ["restore", "evaluate", "tune", "resume", "source"])
def test_a_command_shows_one_line(name: str, files, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    crafted, canary = files
    path = crafted["sympy"]
    folder = tmp_path / "outputs" / "blur_erase" / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(path, folder / "checkpoints" / "last.ckpt")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    train = ["experiment=blur_erase", *TINY]
    main, arguments = {
        "restore": (restoration.restore.main, [f"checkpoint={path}", "input=a.png", "output=new"]),
        "evaluate": (restoration.evaluate.main, [f"checkpoint={path}"]),
        "tune": (restoration.tune.main, [f"checkpoint={path}"]),
        "resume": (restoration.train.main, [*train, "resume=true"]),
        "source": (restoration.train.main, [*train, "name=b", "source=posterior_mean", f"source.restorer.path={path}"]),
    }[name]
    assert run_command(main, *arguments) == 2
    message = complaint(capsys)
    assert "its config names sympy.parsing.sympy_parser.parse_expr (source)" in message
    assert "nothing was executed" in message and "trust=sympy.parsing.sympy_parser.parse_expr" in message
    assert not canary.exists()


def test_without_the_check_crafted_files_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The canary works: Hydra's own list of what is forbidden lets these pass."""
    (tmp_path / "hostile").mkdir()
    crafted, canary = hostile.crafted(tmp_path / "hostile")
    monkeypatch.syspath_prepend(str(canary.parent))
    monkeypatch.setattr("restoration.checkpoint_file.check_targets", lambda *_: None)
    ran = []
    for kind, path in crafted.items():
        if kind in ("deep", "laughs", "cycle", "deep config", "command", "pip"):
            continue  # they take long, or end the process
        with contextlib.suppress(Exception, SystemExit):
            Restorer.load(path)
        if canary.exists():
            ran.append(kind)
            shutil.rmtree(canary) if canary.is_dir() else canary.unlink()
        sys.modules.pop("planted", None)
    print(ran)
    assert {"sympy", "unsafe torch.load", "torch by attributes", "unknown package"} <= set(ran)


def test_a_clean_checkpoint_passes(tmp_path: Path):
    path = hostile.write(tmp_path / "clean.ckpt", hostile.CLEAN)
    assert read_checkpoint(path)["config"] == hostile.CLEAN
    inner = restorer({**hostile.CLEAN, "source": restorer(hostile.CLEAN)})
    check_targets({**hostile.CLEAN, "source": inner})


def test_a_checkpoint_fetches_no_encoder(tmp_path: Path):
    encoder = {"_target_": "restoration.backbone.Encoder", "model": f"local-dir:{tmp_path}", "weights": "random"}
    backbone = {**hostile.CLEAN["backbone"], "encoder": encoder}
    path = hostile.write(tmp_path / "hub.ckpt", {**hostile.CLEAN, "backbone": backbone})
    assert "give a name of timm" in refusal(lambda: Restorer.load(path))
