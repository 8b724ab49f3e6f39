"""The evaluation of a run folder repeats the run's figures to the digit, and says what differs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import FEW_PASSES, TINY, encoder_file, run_command

from restoration import train
from restoration.data import dead_leaves
from restoration.evaluate import main

RUN = Path("outputs/blur_erase/run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=2", "evaluation.spread_samples=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(train.main, *arguments, f"backbone.encoder.weights={encoder_file(folder)}") == 0
    return folder


@pytest.fixture
def desk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed after the table."""
    return capsys.readouterr().out.rpartition("┘")[2].strip().splitlines()


def timeless(path: Path) -> dict:
    """The figures of a metrics.json without times."""
    metrics = json.loads(path.read_text())
    for part in (metrics, metrics["restored"], *metrics["by_nfe"]):
        for name in ("run", "seconds", "images_per_second"):
            part.pop(name, None)
    return metrics


def test_a_run_folder_repeats_its_figures_to_the_digit(desk: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, f"checkpoint={RUN}", "device=cpu") == 0
    said, written = last_lines(capsys)
    assert said.startswith("all ") and said.endswith("metrics.json to the digit") and written.startswith("written to")
    metrics = timeless(RUN / "metrics.json")
    assert metrics["restored"]["psnr"] and timeless(RUN / "evaluation" / "metrics.json") == metrics
    # Another evaluation is not compared.
    assert run_command(main, f"checkpoint={RUN}", "device=cpu", "evaluation.nfe=1", "overwrite=true") == 0
    assert len(last_lines(capsys)) == 1


def test_other_data_and_packages_are_named(desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    sessions = json.loads((RUN / "provenance.json").read_text())
    sessions[-1]["packages"]["torch"] = "1.13.0"
    (RUN / "provenance.json").write_text(json.dumps(sessions))
    draw = dead_leaves.dead_leaves
    monkeypatch.setattr(dead_leaves, "dead_leaves", lambda *given: draw(*given) ^ np.uint8(1))
    (RUN / "checkpoints" / "best.ckpt").rename(RUN / "checkpoints" / "last.ckpt")  # the last, where there is no best
    assert run_command(main, f"checkpoint={RUN}", "device=cpu") == 0
    said = last_lines(capsys)
    assert said[0].startswith("packages.torch: 1.13.0 then, ")
    assert [line.split(":")[0] for line in said[1:4]] == ["data.train", "data.selection", "data.test"]
    assert any(line.startswith("restored.psnr: ") for line in said) and " figures differ from those of " in said[-2]
