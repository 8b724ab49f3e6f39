"""One resolved config per run: what is filled in, where it is stored, and that a resumed run derives it again."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers import FEW_PASSES, TINY, callback_file, composed, last, rows, run_command, without_account
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

from restoration.run.hardware import resolve_precision
from restoration.run.resolve import describe_run, resolve
from restoration.train import main

RUN = Path("outputs/blur_erase/run")


class KeepLoggedConfig(Callback):
    """Writes the config that W&B has into a file."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                Path("wandb_config.json").write_text(json.dumps(dict(logger.experiment.config)))


def resolved(*overrides: str) -> DictConfig:
    with composed("train", *overrides, "folder=run", "trainer.accelerator=cpu") as config:
        describe_run(config)
        return OmegaConf.create(resolve(config))


def stored() -> dict[str, Any]:
    """The run's config, which config.yaml, the last checkpoint and W&B hold alike."""
    written: Any = OmegaConf.to_container(OmegaConf.load(RUN / "config.yaml"))
    assert written == last(RUN)["config"]
    if written["logger"]["wandb"] is not None:
        assert written == json.loads(Path("wandb_config.json").read_text())
    return written


def rates() -> list[float]:
    """Logged learning rates by step; the last row of a step counts."""
    return list({row["step"]: float(row["lr/new"]) for row in rows(RUN) if row["lr/new"]}.values())


def test_every_copy_holds_the_resolved_config_and_a_longer_run_derives_it_again(tmp_path: Path, monkeypatch):
    """The precision and the steps, not `auto` and `null`; the learning rate follows the new length."""
    monkeypatch.chdir(tmp_path)
    without_account(monkeypatch, tmp_path)
    wandb.teardown()
    flags = callback_file(tmp_path / "conf", "test_resolve.KeepLoggedConfig")
    tiny = [item for item in TINY if not item.startswith(("logger.wandb", "trainer.precision"))]
    arguments = ["experiment=blur_erase", *tiny, *FEW_PASSES, "callbacks=extended", "budget.images=16"]
    resumed = ["experiment=blur_erase", "name=run", "resume=true", "trust=test_resolve"]
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    try:
        for more, steps, derived in (
            (arguments, 4, True),
            ([*resumed, "budget.images=24"], 6, True),
            ([*resumed, "trainer.max_steps=8", "logger.wandb=null"], 8, False),
            ([*resumed, "budget.images=40"], 10, True),
        ):
            assert run_command(main, *more, flags=flags if more is arguments else ()) == 0
            config = stored()
            assert config["trainer"]["precision"] == resolve_precision("auto", "cpu")
            assert config["trainer"]["max_steps"] == config["trainer"]["val_check_interval"] == steps
            assert ("trainer.max_steps" in config["run"]["derived"]) == derived
            assert {"trainer.precision", "trainer.val_check_interval"} <= set(config["run"]["derived"])
            assert last(RUN)["global_step"] == steps
            schedule = instantiate(config["schedule"])
            done = len(rates()) - (steps if more is arguments else 2)
            assert rates()[done:] == pytest.approx([1e-3 * schedule(step, steps) for step in range(done, steps)])
    finally:
        wandb.finish()
        wandb.teardown()
    assert len(rates()) == 10


def test_a_budget_counts_images_whatever_a_step_takes():
    tiny = ["budget.images=1600", "data.batch_size=4", "validations=4"]
    for more, steps, interval in (
        ([], 400, 100),
        (["trainer.accumulate_grad_batches=4"], 100, 400),  # batches, as Lightning counts them
        (["trainer.devices=2", "validations=1"], 200, 200),
    ):
        config = resolved(*tiny, *more)
        assert (config.trainer.max_steps, config.trainer.val_check_interval) == (steps, interval)


def test_a_run_of_epochs_has_no_number_of_steps():
    config = resolved("trainer.max_epochs=3")
    trainer = config.trainer
    assert (trainer.max_steps, trainer.val_check_interval, trainer.check_val_every_n_epoch) == (-1, 1.0, 1)
    assert "trainer.check_val_every_n_epoch" in config.run.derived


def test_given_values_are_kept():
    given = ["trainer.max_steps=7", "trainer.val_check_interval=3", "trainer.precision=32-true", "data.batch_size=5"]
    config = resolved(*given)
    assert (config.trainer.max_steps, config.trainer.val_check_interval, config.data.batch_size) == (7, 3, 5)
    assert config.trainer.precision == "32-true" and config.run.derived == []


def test_names_of_a_run():
    config = resolved("name=first", "data=dead_leaves", "ablation=[draws_4,velocity]")
    assert config.run.label == "first/draws_4+velocity" and config.run.ablation == "draws_4+velocity"
    assert (config.run.data, config.run.corruption, config.run.experiment) == (
        "dead_leaves",
        "blur_erase",
        "blur_erase",
    )
    assert config.run.group is None


def test_every_budget_is_a_number_of_images():
    sizes = {}
    for option in ("tiny", "cpu", "small", "full"):
        config = resolved(f"budget={option}", "data.batch_size=64")
        sizes[option] = config.budget.images
        assert 0 <= config.trainer.max_steps * 64 - config.budget.images < 64
    assert list(sizes.values()) == sorted(sizes.values())


def test_the_resolved_config_is_plain_and_frozen():
    with composed("train", "folder=run", "trainer.accelerator=cpu") as config:
        describe_run(config)
        plain = resolve(config)
        assert isinstance(plain["trainer"], dict) and "${" not in json.dumps(plain)
        with pytest.raises(Exception, match="read-only"):
            config.seed = 1
