"""What a run was made from: recorded at each start, without secrets, with git or without."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restoration.data.store import Store
from restoration.report.folder import Report
from restoration.run import provenance
from restoration.run.provenance import fingerprint, record, repeated, sessions

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store(count: int = 8) -> Store:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 4, 4, 3), np.uint8)
    return Store(pixels, np.arange(count), np.zeros(count, np.int64))


def test_the_fingerprint_sees_pixels_indices_and_labels(monkeypatch: pytest.MonkeyPatch):
    whole = fingerprint(store())
    assert whole == fingerprint(store()) and whole.startswith("8 images ")
    for part in ("images", "index", "label"):
        other = store()
        getattr(other, part).reshape(-1)[-1] += 1
        assert fingerprint(other) != whole
    assert fingerprint(store(9)) != whole
    monkeypatch.setattr(provenance, "_HASHED", 4 * 48)  # every second image
    other, sampled = store(), fingerprint(store())
    other.images[1] += 1
    assert fingerprint(other) == sampled
    other.images[2] += 1
    assert fingerprint(other) != sampled


def git(*arguments: str) -> None:
    given = ["-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    subprocess.run(["git", *given], check=True, capture_output=True)


def test_each_start_is_recorded_with_its_changes(desk: Path, monkeypatch: pytest.MonkeyPatch):
    run = desk / "run"
    run.mkdir()
    (desk / "own.py").write_text("a = 1\n")
    git("init")
    git("add", "own.py")
    git("commit", "-m", "first")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "restoration.train", "seed=3", "logger.api_key=12345"])
    monkeypatch.setenv("SOME_VARIABLE", "67890")
    record(run, {"seed": 3}, {"test": store()}, CPU, 1)
    (desk / "own.py").write_text("a = 2\n")
    (desk / "new.py").write_text("")
    record(run, {"seed": 3}, {"test": store()}, CPU, 1)
    first, second = sessions(run)
    assert first["command"].startswith("python -m restoration.train seed=3 ") and first["seed"] == 3
    assert first["packages"]["torch"] == torch.__version__.split("+")[0] or first["packages"]["torch"]
    assert first["data"] == {"test": fingerprint(store())} and first["device"].startswith("cpu ")
    assert first["git"]["working_directory"]["changes"] is None
    changed = second["git"]["working_directory"]
    assert changed["commit"] == first["git"]["working_directory"]["commit"] and changed["not_in_git"] == ["new.py"]
    assert "+a = 2" in (run / changed["changes"]).read_text()
    whole = (run / "provenance.json").read_text()
    assert "12345" not in whole and "67890" not in whole


@pytest.mark.parametrize("missing", ["program", "repository"])
def test_nothing_fails_without_git(missing: str, desk: Path, monkeypatch: pytest.MonkeyPatch):
    if missing == "program":
        monkeypatch.setenv("PATH", str(desk))
    monkeypatch.setattr(provenance, "_PACKAGE", desk)
    (desk / "provenance.json").write_text("damaged")
    record(desk, {"seed": 0}, {}, CPU, 1)
    assert sessions(desk)[0]["git"] == {}


def report(folder: Path, psnr: float) -> Report:
    metrics = {"restored": {"psnr": psnr, "frechet": float("nan")}, "by_nfe": [{"nfe": 1}], "seconds": psnr, "run": {}}
    return Report(folder, metrics)


def test_a_repetition_and_what_differs(desk: Path):
    record(desk, {"seed": 0}, {"test": store()}, CPU, 1)
    (desk / "metrics.json").write_text(json.dumps(report(desk, 20.5).metrics))
    same = repeated(report(desk, 20.5), desk, {"test": store()}, CPU)
    assert same == [f"all 3 figures repeat those of {desk / 'metrics.json'} to the digit"]
    other = store()
    other.images[0] += 1
    (session,) = sessions(desk)
    session["packages"]["torch"] = "1.0"
    session["device"] = "another"
    (desk / "provenance.json").write_text(json.dumps([session]))
    said = repeated(report(desk, 20.25), desk, {"test": other}, CPU)
    begun = ["packages.torch: 1.0 then, ", f"data.test: {fingerprint(store())} then, ", "device: another then, "]
    begun += ["restored.psnr: 20.5 then, 20.25 now", "1 of 3 figures differ from those of "]
    assert len(said) == 5 and all(line.startswith(start) for line, start in zip(said, begun, strict=True))
    (desk / "provenance.json").unlink()
    assert "has no provenance.json" in repeated(report(desk, 20.5), desk, {}, CPU)[0]
