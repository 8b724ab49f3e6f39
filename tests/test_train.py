"""The train command: what a run leaves."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
from helpers import (
    CONF,
    FEW_PASSES,
    TINY,
    callback_file,
    complaint,
    encoder_file,
    rows,
    run_command,
    without_account,
)
from omegaconf import OmegaConf

from restoration.restorer import Restorer
from restoration.train import main

RUN = Path("outputs/blur_erase/run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two stages of eight steps; its working directory."""
    folder = tmp_path_factory.mktemp("finished")
    # Not 1 and 8: the monitored metrics must follow the evaluation.
    arguments = [
        "experiment=blur_erase",
        *TINY,
        "evaluation.nfe=[2,3]",
        "trainer.max_steps=8",
        "trainer.val_check_interval=4",
    ]
    arguments += [f"backbone.encoder.weights={encoder_file(folder)}", "callbacks.staged_unfreezing.share=0.5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(main, *arguments) == 0
    return folder


def test_the_run_folder_holds_everything(finished: Path):
    folder = finished / RUN
    assert {path.name for path in folder.iterdir()} >= {
        *("config.yaml", "metrics.json", "metrics.csv", "per_image.csv", "checkpoints", "images", "train.log")
    }
    checkpoints = {path.name for path in (folder / "checkpoints").iterdir()}
    assert checkpoints == {"last.ckpt", "previous.ckpt", "best.ckpt", "best_frechet.ckpt"}
    pictures = {path.name for path in (folder / "images").iterdir()}
    assert pictures == {"grid.png", "curve.png", "samples", "step_000004.png", "step_000008.png"}
    assert "stage 2 after 16 images" in (folder / "train.log").read_text()
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.data.batch_size == 4 and "${" not in (folder / "config.yaml").read_text()


def test_a_regression_becomes_part_of_the_flow_that_starts_from_it(finished: Path, tmp_path: Path, monkeypatch):
    """Saved with it, unchanged by its training and its average, and no longer needed as a file."""
    monkeypatch.chdir(tmp_path)
    regression = tmp_path / "regression.ckpt"
    shutil.copy(finished / RUN / "checkpoints" / "best.ckpt", regression)
    before = Restorer.load(regression).state_dict()
    arguments = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=3", "source=posterior_mean"]
    assert run_command(main, *arguments, f"source.restorer.path={regression}") == 0
    # The regression's training counts: batches of 4, as in the flow's.
    steps = torch.load(regression, weights_only=True)["global_step"]
    seen = json.loads((RUN / "metrics.json").read_text())["run"]["images_seen"]
    assert steps > 0 and seen == (steps + 3) * 4
    regression.unlink()
    flow = Restorer.load(RUN / "checkpoints" / "best.ckpt")
    inner = flow.source.restorer.state_dict()
    assert list(inner) == list(before) and all(torch.equal(value, before[name]) for name, value in inner.items())
    assert flow.source.noise_level == 0.2
    assert flow.restore(torch.rand(1, 3, 16, 16), torch.arange(1), 2).images.isfinite().all()
    # Nor when the run is resumed.
    assert run_command(main, "experiment=blur_erase", "name=run", "resume=true", "trainer.max_steps=4") == 0
    assert json.loads((RUN / "metrics.json").read_text())["run"]["images_seen"] == (steps + 4) * 4


def test_metrics_json_has_what_every_tool_reads(finished: Path):
    metrics = json.loads((finished / RUN / "metrics.json").read_text())
    assert set(metrics) >= {
        *("identity", "classical", "restored", "by_nfe", "by_severity", "seconds", "images_per_second", "run")
    }
    assert set(metrics["restored"]) >= {"psnr", "ssim", "psnr_hole", "psnr_known", "nfe"}
    assert [point["nfe"] for point in metrics["by_nfe"]] == [2, 3]
    described = {
        "experiment": "blur_erase",
        "name": "run",
        "data": "dead_leaves",
        "corruption": "blur_erase",
        "strength": 1.0,
        "image_size": 16,
    }
    assert metrics["run"].items() >= described.items()
    assert metrics["run"]["steps"] == 8 and metrics["run"]["images_seen"] == 32


def test_metrics_csv_has_losses_by_time_and_learning_rates_by_group(finished: Path):
    logged = rows(finished / RUN)
    columns = set(logged[0])
    assert len({name for name in columns if name.startswith("train/") and "_t" in name}) >= 4, sorted(columns)
    rates = {name: [float(row[name]) for row in logged if row[name]] for name in columns if name.startswith("lr/")}
    assert set(rates) == {"lr/new", "lr/encoder_upper", "lr/encoder_lower"}
    # A frozen group is logged with 0.
    assert rates["lr/encoder_upper"][:4] == [0.0] * 4 and min(rates["lr/encoder_upper"][4:]) > 0
    assert len(rates["lr/new"]) == 8 and min(rates["lr/new"]) > 0
    assert len([row for row in logged if row["val/psnr_nfe2"]]) == 2


def test_a_checkpoint_is_loaded_as_it_was_evaluated(finished: Path):
    best = torch.load(finished / RUN / "checkpoints" / "best.ckpt", weights_only=True)
    assert "optimizer_states" not in best and "current_model_state" not in best
    restorer = Restorer.load(finished / RUN / "checkpoints" / "best.ckpt")
    state = restorer.state_dict()
    assert state and all(torch.equal(best["state_dict"][f"restorer.{name}"], value) for name, value in state.items())


def test_a_run_is_not_overwritten(finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(finished)
    before = (RUN / "metrics.json").read_text()
    assert run_command(main, "experiment=blur_erase", *TINY) == 2
    assert complaint(capsys) == f"{finished / RUN} holds a run; choose another name=…, or continue it with resume=auto"
    assert (RUN / "metrics.json").read_text() == before


def test_a_fast_run_ends_well(tmp_path: Path, monkeypatch):
    """With a single number of evaluations, not a list."""
    monkeypatch.chdir(tmp_path)
    arguments = ["experiment=blur_erase", *TINY, "trainer.fast_dev_run=true", "evaluation.nfe=2"]
    assert run_command(main, *arguments) == 0
    assert "the fast run succeeded" in (RUN / "train.log").read_text()
    assert not (RUN / "metrics.json").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = callback_file(tmp_path / "conf", "helpers.Spoil", step=2)
    arguments = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=4", "callbacks=extended"]
    assert run_command(main, *arguments, flags=flags) == 2
    assert complaint(capsys).startswith("the training loss is not finite at step 3 (loss")
    # Neither a report nor a checkpoint of broken weights.
    assert not (RUN / "metrics.json").exists() and not (RUN / "checkpoints" / "last.ckpt").exists()


def test_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """`-m`: one run folder and one offline W&B run per job, one group, one table; a bad job fails alone."""
    monkeypatch.chdir(tmp_path)
    without_account(monkeypatch, tmp_path)
    wandb.teardown()
    tiny = [item for item in TINY if not item.startswith("logger")]
    arguments = ["experiment=blur_erase", *tiny, *FEW_PASSES, "trainer.max_steps=2", "corruption.strength=0.5,7,1.0"]
    try:
        assert run_command(main, *arguments, flags=["-m"]) == 2
    finally:
        wandb.finish()
        wandb.teardown()
    said = capsys.readouterr()
    assert "job failed: corruption.strength=7 must be" in said.err and "Traceback" not in said.err
    folders = [tmp_path / RUN / f"corruption.strength={strength}" for strength in (0.5, 1.0)]
    # The README's command for `wandb sync` finds the runs of sweeps too.
    (pattern,) = re.findall(r"find outputs -name '(\S+)'", (CONF.parent / "README.md").read_text())
    offline = sorted((tmp_path / "outputs").rglob(pattern))
    assert [path.parents[1] for path in offline] == folders
    for folder, strength, path in zip(folders, (0.5, 1.0), offline, strict=True):
        assert json.loads((folder / "metrics.json").read_text())["run"]["strength"] == strength
        content = next(path.glob("*.wandb")).read_bytes()
        # The protocol buffer names the run and its group, the sweep.
        assert f"run/{folder.name}".encode() in content and b"restoration" in content
    # Results and states of all jobs.
    assert said.out.count("│ identity") == 2 and "│ corruption.strength=7 " in said.out


@pytest.mark.slow
def test_the_command_line_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In its own process without a terminal: no prompt, one clear line, exit status 2."""
    without_account(monkeypatch, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CONF.parent))
    for module, arguments, said in (
        ("train", ["data.btach_size=3"], "error: unknown key 'data.btach_size'; did you mean 'batch_size'?\n"),
        ("evaluate", ["checkpoint=none.ckpt"], "error: no checkpoint at none.ckpt; a run saves checkpoints/best.ckpt"),
    ):
        command = [sys.executable, "-m", f"restoration.{module}", *arguments]
        ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert ended.returncode == 2 and ended.stderr.startswith(said) and ended.stderr.count("\n") == 1
