"""A discriminator with an optimiser of its own, beside the restorer: no callback needs to know about it."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import composed, encoder_file, fit, last, tiny_module
from hydra.utils import instantiate
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from restoration.batch import Batch
from restoration.callbacks import EMA
from restoration.flow import to_model
from restoration.keyed import fold
from restoration.training.module import RestorationModule
from restoration.training.schedule import Cosine

SCHEDULE = Cosine(warmup=0.25)
PEAKS = {"new": 3e-4, "encoder_upper": 1e-4, "encoder_lower": 3e-5}
STEPS = 8


class Adversarial(RestorationModule):
    """Trains the restorer on its objective and against a discriminator of single evaluations, in turn."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.automatic_optimization = False
        self.discriminator = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.SiLU(), nn.Conv2d(8, 1, 1))

    def configure_optimizers(self) -> Any:
        return [super().configure_optimizers(), torch.optim.Adam(self.discriminator.parameters(), lr=1e-3)]

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        # Lightning counts the steps of wrapped optimisers: only the restorer's is one.
        restorer_optimizer: Any = self.optimizers()[0]
        discriminator_optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)[1]
        keys = fold(self.seed, "objective", self.current_epoch, batch.index)
        loss, terms = self.objective(self.restorer, batch, keys)
        field = self.restorer.field(batch.degraded)
        restored = field.clean(field.start(keys), torch.zeros(len(batch)))
        loss = loss + 0.1 * F.softplus(-self.discriminator(restored)).mean()
        restorer_optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(restorer_optimizer, 1.0)
        restorer_optimizer.step()

        real, false = self.discriminator(to_model(batch.clean)), self.discriminator(restored.detach())
        discriminator_loss = (F.softplus(-real) + F.softplus(false)).mean()
        discriminator_optimizer.zero_grad()
        self.manual_backward(discriminator_loss)
        discriminator_optimizer.step()
        self.log("train/discriminator", discriminator_loss.detach())
        return {"loss": loss.detach(), **terms, "discriminator": discriminator_loss.detach()}


class Watch(Callback):
    """Learning rates by group, and the optimisers' steps, at the end of each batch; fails at a step if asked."""

    def __init__(self, fail: int | None = None) -> None:
        self.fail = fail
        self.rates: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if trainer.global_step == self.fail:
            raise RuntimeError("stopped")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.rates.append({group["name"]: group["lr"] for group in pl_module.scheduled_groups()})


def train(folder: Path, weights: Path, fail: int | None = None, resume: bool = False) -> tuple[Any, list[Any], Watch]:
    """Eight steps with all default callbacks; gives the module, the callbacks and the watch."""
    torch.manual_seed(3)
    plain = tiny_module(weights, schedule=SCHEDULE)
    optimizer = functools.partial(torch.optim.AdamW, lr=1e-3)
    module = Adversarial(plain.restorer, plain.objective, optimizer, SCHEDULE, plain.config)
    choices = ["evaluation.nfe=[1,2]", "callbacks.staged_unfreezing.share=0.5", "callbacks.progress_bar=null"]
    with composed("train", *choices, f"folder={folder}") as config:
        callbacks = [instantiate(node) for node in config.callbacks.values() if node is not None]
    watch = Watch(fail)
    fit(
        module,
        folder,
        [*callbacks, watch],
        ckpt_path=folder / "checkpoints" / "last.ckpt" if resume else None,
        max_steps=STEPS,
    )
    return module, callbacks, watch


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_file(tmp_path_factory.mktemp("weights"))


def test_the_restorer_follows_its_schedule_and_alone_is_averaged(weights: Path, tmp_path: Path):
    module, callbacks, watch = train(tmp_path, weights)
    assert module.trainer.global_step == STEPS == len(watch.rates)
    first = [1e-3 * SCHEDULE(step, STEPS // 2) for step in range(STEPS // 2)]
    assert [rates["new"] for rates in watch.rates[: STEPS // 2]] == pytest.approx(first)
    for name, peak in PEAKS.items():
        second = [peak * SCHEDULE(step, STEPS // 2) for step in range(STEPS // 2)]
        assert [rates[name] for rates in watch.rates[STEPS // 2 :]] == pytest.approx(second)
    (ema,) = (callback for callback in callbacks if isinstance(callback, EMA))
    assert set(ema._average_model.module.state_dict()) == set(module.restorer.state_dict())
    saved = last(tmp_path)
    assert not [name for name in saved["current_model_state"] if not name.startswith("restorer.")]
    # The discriminator's own weights are those it trains with, and it has trained.
    for name, value in module.discriminator.state_dict().items():
        assert torch.equal(saved["state_dict"][f"discriminator.{name}"], value)
    assert all(int(state["step"]) == STEPS for state in saved["optimizer_states"][1]["state"].values())


def test_a_resumed_run_ends_as_the_uninterrupted_one(weights: Path, tmp_path: Path):
    train(tmp_path / "whole", weights)
    # Stopped in the last batch of an epoch, when it was fetched but not yet trained on.
    with pytest.raises(RuntimeError, match="stopped"):
        train(tmp_path / "parts", weights, fail=5)
    assert last(tmp_path / "parts")["global_step"] == 5
    train(tmp_path / "parts", weights, resume=True)
    ours, theirs = last(tmp_path / "parts"), last(tmp_path / "whole")
    for part in ("state_dict", "current_model_state"):
        assert ours[part].keys() == theirs[part].keys()
        assert all(torch.equal(value, theirs[part][name]) for name, value in ours[part].items())
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        assert mine["param_groups"] == other["param_groups"]
        for number, state in mine["state"].items():
            assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())
    assert ours["images_seen"] == theirs["images_seen"] == STEPS * 4
