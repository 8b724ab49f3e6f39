"""Errors for two kinds of people: one line for a user's mistake, a traceback for a programmer's."""

import errno
from pathlib import Path

import pytest
from helpers import FEW_PASSES, TINY, complaint, run_command
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf

from restoration.errors import UserError
from restoration.run.command import command, output_folder
from restoration.run.sweep import JobError
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
# Classes as a user would write them; each raises an error of its own.
OWN = """
import torch
from lightning.pytorch import Callback

from restoration.errors import UserError
from restoration.objective import Term


class Attribute(Callback):
    def __init__(self):
        self.missing.start()


class Key(Callback):
    def __init__(self):
        {}["missing"]


class Value(Callback):
    def __init__(self):
        int("missing")


class Step(Term):
    def forward(self, field, batch, keys, progress):
        raise RuntimeError("missing")


class Library(Term):
    def forward(self, field, batch, keys, progress):
        torch.optim.AdamW(self.parameters(), lr=-1)


class Refuses(Term):
    def forward(self, field, batch, keys, progress):
        raise UserError("give another")
"""


def test_a_file_is_no_output_folder(tmp_path: Path):
    (tmp_path / "README.md").write_text("")
    with pytest.raises(UserError, match=r"output .*README.md cannot be a folder \(File exists\); give another"):
        output_folder(tmp_path / "README.md")


def test_an_error_for_the_user_is_one_line(capsys: pytest.CaptureFixture[str]):
    def main() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise UserError("do this instead") from error

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: do this instead\n"


def test_a_constructor_s_refusal_is_one_line(capsys: pytest.CaptureFixture[str]):
    node = OmegaConf.create({"callbacks": {"ema": {"_target_": "restoration.callbacks.EMA", "horizon": 2}}})
    with pytest.raises(SystemExit):
        command(lambda: instantiate(node))()
    assert complaint(capsys) == "callbacks.ema.horizon=2: a share in (0, 1] is needed"


def test_an_unexpected_error_keeps_its_traceback():
    def main() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        command(main)()


def test_sigterm_ends_with_its_status():
    def main() -> None:
        raise SIGTERMException

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 143


def test_ctrl_c_ends_with_its_status(capsys: pytest.CaptureFixture[str]):
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]):
    def main() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 2
    said = "metrics.csv: the disk is full, make room; a stopped training continues with resume=auto"
    assert complaint(capsys) == said


def test_a_job_of_a_sweep_raises(monkeypatch: pytest.MonkeyPatch):
    def main() -> None:
        raise UserError("this job only")

    class Sweeping:
        mode = RunMode.MULTIRUN

    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: Sweeping)
    with pytest.raises(JobError, match="this job only") as raised:
        command(main)()
    assert raised.value.status == 2 and raised.value.__context__ is None


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module of the user's own."""
    (tmp_path / "own_classes.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("from math import no_such_function\n")
    (tmp_path / "own_needy.py").write_text("\n\nimport no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*arguments: str) -> int:
    return run_command(main, "experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=1", *arguments)


def trace(capsys: pytest.CaptureFixture[str], file: str, number: int) -> str:
    """What a programmer's error prints: a traceback that names the line, the same in train.log."""
    said, logged = capsys.readouterr().err, (RUN / "train.log").read_text()
    for text in (said, logged):
        assert text.count("Traceback (most recent call last)") >= 1 and f'{file}.py", line {number}, in ' in text
    assert "error: " not in said
    return said.strip().splitlines()[-1]


def line(text: str) -> int:
    """The number of the line of `OWN` with that text."""
    return next(number for number, content in enumerate(OWN.splitlines(), start=1) if text in content)


@pytest.mark.parametrize(
    "name, where, kind",
    [
        ("Attribute", "self.missing.start()", "AttributeError"),
        ("Key", '{}["missing"]', "KeyError"),
        ("Value", 'int("missing")', "ValueError"),
    ],
)
def test_an_error_in_a_user_s_constructor_keeps_its_traceback(name: str, where: str, kind: str, desk: Path, capsys):
    assert run(f"callbacks.own._target_=own_classes.{name}") == 1
    trace(capsys, "own_classes", line(where))
    assert kind in (RUN / "train.log").read_text()


@pytest.mark.parametrize(
    "name, full, where, last",
    [
        ("Step", False, 'RuntimeError("missing")', "RuntimeError: missing"),
        ("Step", True, 'RuntimeError("missing")', "RuntimeError: missing"),
        ("Library", False, "lr=-1", "ValueError: Invalid learning rate: -1"),
    ],
    ids=["", "HYDRA_FULL_ERROR", "library"],
)
def test_an_error_in_a_step_keeps_its_traceback(name, full, where, last, desk: Path, capsys, monkeypatch):
    if full:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert run(f"objective.terms.own._target_=own_classes.{name}") == 1
    assert trace(capsys, "own_classes", line(where)) == last


def test_a_user_error_in_a_step_is_one_line(desk: Path, capsys: pytest.CaptureFixture[str]):
    assert run("objective.terms.own._target_=own_classes.Refuses") == 2
    assert complaint(capsys) == "give another"


def test_hydra_full_error_shows_the_traceback_of_a_user_error(desk: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert run("objective.terms.own._target_=own_classes.Refuses") == 1
    assert trace(capsys, "own_classes", line('UserError("give another")')).endswith("UserError: give another")


@pytest.mark.parametrize(
    "override, said",
    [
        ("callbacks.ema.share=0.5", "unknown key 'callbacks.ema.share'"),
        ("callbacks.own._target_=restoraton.callbacks.EMA", "callbacks.own._target_=restoraton.callbacks.EMA does not"),
        ("callbacks.ema._target_=restoration.calbacks.EMA", "callbacks.ema._target_=restoration.calbacks.EMA does not"),
        ("callbacks.ema._target_=restoration.callbacks.Emma", "callbacks.ema._target_=restoration.callbacks.Emma does"),
        ("optimizer.lr=-1", "optimizer.lr=-1 must be a number from 0 up"),
        ("trainer.limit_train_batches=7.5", "lightning.pytorch.trainer.trainer.Trainer: You have passed invalid value"),
    ],
)
def test_a_name_or_value_that_is_refused_is_one_line(override: str, said: str, desk: Path, capsys):
    assert run(override) == 2
    assert said in complaint(capsys)


@pytest.mark.parametrize(
    "module, number, kind", [("own_broken", 1, "ImportError"), ("own_needy", 3, "ModuleNotFoundError")]
)
def test_a_module_that_fails_on_import_keeps_its_traceback(module: str, number: int, kind: str, desk: Path, capsys):
    assert run(f"callbacks.own._target_={module}.Callback") == 1
    trace(capsys, module, number)
    assert f"{kind}: " in (RUN / "train.log").read_text()
