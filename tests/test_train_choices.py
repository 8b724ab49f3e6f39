"""The train command with parts left out, replaced or added by a user: whatever their keys are called."""

import json
from pathlib import Path

import pytest
import torch
import wandb
from helpers import FEW_PASSES, TINY, encoder_file, rows, run_command, without_account
from omegaconf import OmegaConf

from restoration import evaluate
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
TRAIN = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=2"]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metrics(folder: Path = RUN) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def checkpoints() -> set[str]:
    return {path.name for path in (RUN / "checkpoints").iterdir()}


def test_a_run_without_image_quality_is_evaluated_from_its_last_checkpoint():
    """No metric is monitored, so there is no best checkpoint."""
    assert run_command(main, *TRAIN, "callbacks.image_quality=null") == 0
    assert checkpoints() == {"last.ckpt"}
    assert metrics()["run"]["steps"] == 2 and metrics()["restored"]["psnr"] > 0
    assert not [name for name in rows(RUN)[0] if name.startswith("val/psnr")]


def test_a_run_without_an_average_keeps_one_set_of_weights(desk: Path):
    """Neither an average nor stages: everything trains from the start with the optimiser's rate."""
    weights = f"backbone.encoder.weights={encoder_file(desk)}"
    off = ["callbacks.ema=null", "callbacks.staged_unfreezing=null", "logger.csv=null"]
    assert run_command(main, *TRAIN, weights, *off) == 0
    last = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)
    assert "current_model_state" not in last
    assert all(torch.equal(value, best["state_dict"][name]) for name, value in last["state_dict"].items())
    groups = last["optimizer_states"][0]["param_groups"]
    assert {group["name"]: group["peak_lr"] for group in groups} == dict.fromkeys(
        ("new", "encoder_upper", "encoder_lower"), 1e-3
    )
    assert len(last["optimizer_states"][0]["state"]) == sum(len(group["params"]) for group in groups)
    assert metrics()["run"]["steps"] == 2 and not (RUN / "metrics.csv").exists()


def test_objects_may_have_any_name(desk: Path, monkeypatch: pytest.MonkeyPatch):
    """The class of an object decides what it gets, not its key."""
    without_account(monkeypatch, desk)
    wandb.teardown()
    (desk / "conf" / "callbacks").mkdir(parents=True)
    (desk / "conf" / "callbacks" / "mine.yaml").write_text(
        "defaults: [default]\nimage_quality: null\n"
        "figures:\n  _target_: restoration.callbacks.ImageQuality\n  nfe: [2, 3]\n"
        "more_figures:\n  _target_: restoration.callbacks.ImageQuality\n  nfe: [4]\n"
    )
    (desk / "conf" / "logger").mkdir()
    (desk / "conf" / "logger" / "mine.yaml").write_text(
        "table:\n  _target_: restoration.training.loggers.RunCSVLogger\n  save_dir: ${folder}\n"
        "second_table:\n  _target_: restoration.training.loggers.RunCSVLogger\n  save_dir: ${folder}/second\n"
        "dashboard:\n  _target_: restoration.training.loggers.wandb_logger\n  project: mine\n  save_dir: ${folder}\n"
        "  name: ${run.label}\n"
    )
    tiny = [argument for argument in TRAIN if not argument.startswith("logger.")]
    weights = f"backbone.encoder.weights={encoder_file(desk)}"
    arguments = [*tiny, weights, "callbacks=mine", "logger=mine"]
    try:
        assert run_command(main, *arguments, flags=["--config-dir", str(desk / "conf")]) == 0
    finally:
        wandb.finish()
        wandb.teardown()
    logged = [row for row in rows(RUN) if row["val/psnr"]][-1]
    # Both have the Fréchet distance over the run's own encoder.
    assert all(float(logged[f"val/frechet_nfe{nfe}"]) > 0 for nfe in (2, 3, 4))
    assert checkpoints() == {"last.ckpt", "best.ckpt", "best_frechet.ckpt"}
    losses = [row["train/loss"] for row in rows(RUN)]
    assert any(losses) and [row["train/loss"] for row in rows(RUN / "second")] == losses
    assert len(list((RUN / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.parametrize("experiment", ["demo", "blur_erase"])
def test_a_backbone_of_one_s_own_is_one_file_and_one_yaml(experiment: str, desk: Path):
    """Without an encoder there is nothing to freeze and no Fréchet distance; it is evaluated and resumed."""
    (desk / "conf" / "backbone").mkdir(parents=True)
    (desk / "conf" / "backbone" / "plain.yaml").write_text("_target_: tiny.Plain\n")
    tiny = [argument for argument in TINY if not argument.startswith(("backbone.", "estimator.", "data="))]
    passes = FEW_PASSES if experiment == "blur_erase" else []
    flags = ["--config-dir", str(desk / "conf")]
    data = [] if experiment == "demo" else ["data=dead_leaves"]
    arguments = [f"experiment={experiment}", "backbone=plain", *data, *tiny, *passes, "trainer.max_steps=2"]
    assert run_command(main, *arguments, flags=flags) == 0
    folder = Path("outputs") / experiment / "run"
    assert not [name for name in metrics(folder)["restored"] if name.startswith("frechet")]
    assert OmegaConf.load(folder / "config.yaml").backbone == {"_target_": "tiny.Plain"}
    small = ["evaluation.images=4", "evaluation.nfe=[1]", "evaluation.spread_samples=0", "device=cpu", "trust=tiny"]
    checkpoint = f"checkpoint={folder / 'checkpoints' / 'best.ckpt'}"
    assert run_command(evaluate.main, checkpoint, *small) == 0
    assert metrics(folder / "evaluation")["restored"]["psnr"] == pytest.approx(metrics(folder)["restored"]["psnr"])
    if experiment == "blur_erase":
        assert run_command(main, *arguments, "resume=true", "trust=tiny", "trainer.max_steps=3", flags=flags) == 0


def test_ablations_combine(capsys: pytest.CaptureFixture[str]):
    assert run_command(main, *TRAIN, "ablation=[noise,adaptive]") == 0
    config = OmegaConf.load(RUN / "config.yaml")
    assert config.source._target_.endswith(".Noise")
    assert config.objective.terms.flow.error._target_.startswith("restoration.objective.Adaptive")
    assert metrics()["run"]["name"] == config.run.label == "run/noise+adaptive"
