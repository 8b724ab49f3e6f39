"""W&B without a key, a terminal or a network; the CSV file across a resume."""

import csv
import os
import time
from pathlib import Path

import pytest
import wandb
from helpers import without_account

from restoration.errors import UserError
from restoration.training import loggers
from restoration.training.loggers import RunCSVLogger, folder_run_id, wandb_logger, wandb_mode


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No key from this machine reaches a test, and W&B forgets what it read before and after."""
    without_account(monkeypatch, tmp_path)
    wandb.teardown()
    yield
    wandb.finish()
    wandb.teardown()


def test_mode_without_a_key_is_offline():
    assert wandb_mode("auto") == "offline"


def test_mode_with_a_key_is_online(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == "online"


def write_netrc(path: Path, machine: str) -> None:
    path.write_text(f"machine {machine}\n  login user\n  password {'k' * 40}\n")


@pytest.mark.parametrize(("machine", "mode"), [("127.0.0.1:9", "online"), ("elsewhere", "offline")])
def test_mode_reads_netrc_of_the_server_in_use(tmp_path: Path, machine: str, mode: str):
    write_netrc(tmp_path / "netrc", machine)
    assert wandb_mode("auto") == mode


def test_mode_reads_netrc_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wandb_mode("auto") == "offline"
    write_netrc(tmp_path / ".netrc", "127.0.0.1:9")
    assert wandb_mode("auto") == "online"


def test_mode_follows_the_server_of_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`wandb login --host` writes the server there."""
    monkeypatch.delenv("WANDB_BASE_URL")
    (tmp_path / "wandb_config").mkdir()
    (tmp_path / "wandb_config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    write_netrc(tmp_path / "netrc", "api.wandb.ai")
    assert wandb_mode("auto") == "offline"
    write_netrc(tmp_path / "netrc", "wandb.example.org")
    assert wandb_mode("auto") == "online"


def test_mode_knows_the_earlier_name_of_the_default_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_BASE_URL")
    write_netrc(tmp_path / "netrc", "api.wandb.ai")
    assert wandb_mode("auto") == "online"


def test_a_broken_netrc_is_no_key(tmp_path: Path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1:9 pass")
    assert wandb_mode("auto") == "offline"


@pytest.mark.parametrize("variable, mode", [("online", "online"), ("OFFLINE", "offline")])
def test_mode_auto_follows_the_environment(monkeypatch: pytest.MonkeyPatch, variable: str, mode: str):
    monkeypatch.setenv("WANDB_MODE", variable)
    assert wandb_mode("auto") == mode


def test_an_explicit_mode_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("offline") == "offline"


def test_mode_unknown_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="'onlin' is none of online"):
        wandb_mode("onlin")
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(UserError, match="WANDB_MODE='of'"):
        wandb_mode("auto")


def test_each_folder_has_one_run_id(tmp_path: Path):
    first = folder_run_id(tmp_path / "a")
    assert folder_run_id(tmp_path / "a") == first
    assert folder_run_id(tmp_path / "b") != first


def job(folder: Path, **options) -> wandb.Run:
    """A run as a training job starts it, left open."""
    logger = wandb_logger("p", folder, name=folder.name, group="g", **options)
    logger.log_hyperparams({"a": {"b": 1, "c": [2, None]}, "d": "e"})
    logger.log_metrics({"val/psnr_nfe1": 20.0}, step=3)
    return logger.experiment


def test_two_jobs_in_one_process_are_two_runs_and_a_resume_is_the_same(tmp_path: Path):
    runs = []
    for name in ("one", "two", "one"):
        run = job(tmp_path / name)
        assert run.settings.mode == "offline" and run.group == "g" and run.name == name
        assert dict(run.config) == {"a": {"b": 1, "c": [2, None]}, "d": "e"}
        assert run.summary["trainer/global_step"] == 3
        assert Path(run.dir).is_dir() and Path(run.dir).is_relative_to(tmp_path / name / "wandb")
        assert run.id == folder_run_id(tmp_path / name)
        runs.append(run.id)
        wandb.finish()
        assert wandb.run is None
    assert runs[0] != runs[1] and runs[0] == runs[2]


def test_an_unfinished_job_is_closed_by_the_next(tmp_path: Path):
    first = job(tmp_path / "one")
    second = job(tmp_path / "two")
    assert first.id != second.id and second.name == "two"


def test_modes_change_from_job_to_job(tmp_path: Path):
    modes = ("offline", "disabled", "offline")
    assert [job(tmp_path / str(i), mode=mode).settings.mode for i, mode in enumerate(modes)] == list(modes)
    assert "WANDB_MODE" not in os.environ


def test_online_without_a_key_starts_offline_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    modes, init = [], wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: modes.append(options["mode"]) or init(**options))
    with pytest.warns(UserWarning, match="cannot go online: no API key"):
        job(tmp_path, mode="online")
    assert modes == ["offline"]  # an online start could have asked


def test_a_malformed_key_goes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.warns(UserWarning, match="cannot go online: .*key"):
        assert job(tmp_path).settings.mode == "offline"


def test_online_without_a_network_goes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing listens at the server's address: W&B's own wait would be 90 seconds, and end in an error."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(loggers, "START_TIMEOUT", 0.5)
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="cannot go online") as caught:
        run = job(tmp_path)
    assert run.settings.mode == "offline" and time.monotonic() - begin < 40
    assert sum("cannot go online" in str(warning.message) for warning in caught) == 1


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_is_continued_by_a_resumed_run(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    for step, metrics in [(1, {"loss": 0.5}), (2, {"loss": 0.25, "val/psnr": 20.0})]:
        writer = RunCSVLogger(tmp_path)
        writer.log_hyperparams({"seed": 0})
        writer.log_metrics(metrics, step=step)
        writer.save()
    assert rows(tmp_path / "metrics.csv") == [
        {"loss": "0.5", "step": "1", "val/psnr": ""},
        {"loss": "0.25", "step": "2", "val/psnr": "20.0"},
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "metrics.csv"}
