"""Lightning modules: optimise, log, delegate."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.keyed import fold
from restoration.objective import Objective
from restoration.restorer import Restorer


@dataclass(frozen=True)
class Clock:
    """Where a training is, in images seen. Schedules and stages go by it.

    Attributes:
        seen: training images before this batch, on all devices.
        per_step: images of one step of the network's optimiser, on all devices.
        total: images of the whole run.
    """

    seen: int
    per_step: int
    total: int


class TrainingModule(LightningModule):
    """Trains the network that a run is about: optimise, log, save.

    The parameter groups carry their own `peak_lr` (the optimiser's rate times `lr_factor`), `start_images` and
    `end_images` (None: the end of the run), between which the schedule runs. They are part of the optimiser's state, so
    a resumed run continues with them. Further optimisers (a discriminator's, say) may stand beside it; their groups
    have no `peak_lr`. Step them through `self.optimizers(use_pl_optimizer=False)`: Lightning counts every other step
    towards `max_steps`.

    Args:
        optimizer: makes the optimiser from parameter groups.
        schedule: the factor on the peak learning rate, from a step and the number of steps.
        config: plain containers, written into every checkpoint so that it can be rebuilt.
        seed: keys the draws of training.
    """

    trains: ClassVar[str]
    """Name of the attribute with the network, which is averaged, evaluated and kept; it begins its weights' names."""

    def __init__(
        self,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Callable[[int, int], float],
        config: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.config = config
        self.seed = seed
        self.flops_per_batch: int | None = None
        self.progress = 0.0  # share of the training that is done
        self._images_per_batch = 0
        self._seconds = 0.0
        self._began: float | None = None

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        network: nn.Module = getattr(self, self.trains)
        return network

    @abstractmethod
    def parameter_groups(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        """The parameters of each group, and what the optimiser does otherwise for them."""

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.optimizer(
            {"params": parameters, "name": name, "start_images": 0, "end_images": None, **options}
            for name, (parameters, options) in self.parameter_groups().items()
        )
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"] * group.pop("lr_factor", 1.0)
        return optimizer

    def scheduled_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of `configure_optimizers`, whatever other optimisers there are."""
        return [
            group for optimizer in self.trainer.optimizers for group in optimizer.param_groups if "peak_lr" in group
        ]

    @property
    def images_seen(self) -> int:
        """Training images so far, on all devices."""
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return batches.processed * self._images_per_batch

    @property
    def training_seconds(self) -> float:
        """Time in training and validation so far, with that before a resume."""
        return self._seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    def on_fit_start(self) -> None:
        self._began = time.monotonic()

    def on_fit_end(self) -> None:
        self._seconds, self._began = self.training_seconds, None

    def clock(self, batch: Batch) -> Clock:
        """The clock at the start of a training batch. All training batches are of one size.

        Raises:
            UserError: a resumed run has another number of devices.
        """
        images = len(batch) * self.trainer.world_size
        if self._images_per_batch not in (0, images):
            raise UserError(
                f"this run trains on {self._images_per_batch} images at a time on all devices, not {images}: resume it "
                "on the same number of devices, or start a new run"
            )
        self._images_per_batch = images
        per_step = self._images_per_batch * self.trainer.accumulate_grad_batches
        return Clock(self.images_seen, per_step, int(self.trainer.estimated_stepping_batches) * per_step)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        clock = self.clock(batch)
        self.progress = min(1.0, clock.seen / max(1, clock.total))
        for group in self.scheduled_groups():
            end = clock.total if group["end_images"] is None else group["end_images"]
            step, steps = ((images - group["start_images"]) // clock.per_step for images in (clock.seen, end))
            group["lr"] = group["peak_lr"] * self.schedule(step, max(1, steps))
            trains = group["params"][0].requires_grad
            self.log(f"lr/{group['name']}", group["lr"] if trains else 0.0)

    @abstractmethod
    def terms(self, batch: Batch, keys: Tensor, progress: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss () of a batch, whose draws come from the keys int64 (B,), and its terms by name.

        `progress` in [0, 1] is the share of the training that is done.
        """

    def keys(self, batch: Batch) -> Tensor:
        """The keys int64 (B,) of the draws of a training step."""
        return fold(self.seed, "objective", self.current_epoch, batch.index)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        loss, terms = self.terms(batch, self.keys(batch), self.progress)
        self._log_terms("train", {"loss": loss.detach(), **terms}, batch)
        # With the terms, so that the guard can name the one that is not finite.
        return {"loss": loss, **terms}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        loss, terms = self.terms(batch, fold(0, "validation", batch.index))
        self._log_terms("val", {"loss": loss, **terms}, batch)

    def _log_terms(self, stage: str, terms: dict[str, Tensor], batch: Batch) -> None:
        # Not by Lightning's `sync_dist`: it rounds the numbers of images.
        values = batch.averaged(torch.stack([value.float() for value in terms.values()]))
        for name, value in zip(terms, values, strict=True):
            self.log(f"{stage}/{name}", value, prog_bar=(stage, name) == ("train", "loss"), batch_size=batch.count)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        checkpoint["images_seen"] = self.images_seen
        checkpoint["training_seconds"] = self.training_seconds
        checkpoint["images_per_batch"] = self._images_per_batch
        if "optimizer_states" in checkpoint:
            return
        # Lightning leaves callbacks out of a weights-only checkpoint, which would then hold the raw weights.
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_save_checkpoint(self.trainer, self, checkpoint)
        for name in ("current_model_state", "averaging_state"):
            checkpoint.pop(name, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._images_per_batch = checkpoint["images_per_batch"]
        self._seconds = checkpoint.get("training_seconds", 0.0)


class RestorationModule(TrainingModule):
    """Trains a restorer.

    Args, beside those of `TrainingModule`:
        restorer: what is trained.
        objective: what is minimised.
        compile: compiles the backbone in place; checkpoint keys do not change.

    Raises:
        UserError: as `Objective.check_restorer`.
    """

    trains = "restorer"

    def __init__(
        self,
        restorer: Restorer,
        objective: Objective,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Callable[[int, int], float],
        config: dict[str, Any],
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__(optimizer, schedule, config, seed)
        self.restorer = restorer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective.check_restorer(restorer)
        self.objective = objective
        if compile:
            restorer.backbone.compile()

    def parameter_groups(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        return {name: (parameters, {}) for name, parameters in self.restorer.parameter_groups().items()}

    def terms(self, batch: Batch, keys: Tensor, progress: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.restorer, batch, keys, progress)
