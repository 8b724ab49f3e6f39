"""Guards that stop a diverged training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from restoration.batch import Batch
from restoration.checkpoint_file import broken, save
from restoration.errors import Count, UserError, whole_number

# Under fp16 a gradient scaler starts too high, and skips overflowing steps until it fits.
FP16_PATIENCE = 20
# The name of the gradient's norm among the terms of the loss.
GRADIENT = "gradient norm"


class FiniteLoss(Callback):
    """Stops the training if the loss or the gradient norm is NaN or infinite. Lightning would train on.

    The result is kept on the loss's device. On a CPU it is read every step, before the weights change: a bad step is
    skipped, and the batch and the weights are written to `failed_batch.pt`. On a GPU it is read every few steps and
    before each validation and checkpoint, so that the queue of kernels is not drained every step and no checkpoint
    holds broken weights.

    Args:
        patience: number of consecutive bad steps to stop at. With a gradient scaler (fp16) at least 20.
        every_n_steps: how often a GPU is read; 1 does what is done on a CPU.

    Raises:
        UserError: an argument below 1; in training, a loss or gradient that is not finite, with the step and the terms.
    """

    def __init__(self, patience: Count = 1, every_n_steps: Count = 25) -> None:
        self.patience = whole_number("callbacks.finite_loss.patience", patience, 1)
        self.every_n_steps = whole_number("callbacks.finite_loss.every_n_steps", every_n_steps, 1)
        self._names: list[str] = []
        self._run: Tensor | None = None
        self._norms: list[Tensor] = []
        self._buffers: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run = None
        self._scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._limit = max(self.patience, FP16_PATIENCE) if self._scaled else self.patience

    def _at_once(self, device: torch.device) -> bool:
        return device.type != "cuda" or self.every_n_steps == 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if self._at_once(pl_module.device):  # the forward pass changes batch statistics
            self._buffers = {name: value.clone() for name, value in pl_module.named_buffers()}

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        # Before clipping, which would spread one bad value over all gradients.
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters]).float()
        self._norms.append(norm)
        if not self._scaled and self._at_once(norm.device) and not norm.isfinite():  # a scaler skips the step itself
            for parameter in parameters:
                parameter.grad = None

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        terms = _terms(outputs)
        if not terms:
            return
        # Without a step, or with a manual one of several optimisers, the norm's place is kept.
        terms[GRADIENT] = sum(self._norms, torch.zeros((), device=terms["loss"].device))
        self._norms = []
        finite = torch.isfinite(torch.stack([term.detach().float().reshape(()) for term in terms.values()]))
        if self._run is None or list(terms) != self._names:
            self._names = list(terms)
            self._run = torch.zeros((), dtype=torch.int64, device=finite.device)
            self._step = torch.full_like(self._run, -1)
            self._culprits = torch.zeros_like(finite)
        # Length of the current run of bad steps; the first run that is too long stores its step and its terms. Only
        # the loss and the gradient count: a term may be NaN for good reason, such as a time interval without a draw.
        counted = finite[self._names.index("loss")] & finite[-1]
        self._run = torch.where(counted, 0, self._run + 1)
        hit = (self._run >= self._limit) & (self._step < 0)
        self._step = torch.where(hit, trainer.global_step, self._step)
        self._culprits = torch.where(hit, ~finite, self._culprits)
        if self._at_once(finite.device):
            if int(self._step) >= 0:
                self._raise_if_bad(_written(trainer, pl_module, batch, int(self._step), self._buffers))
        elif batch_idx % self.every_n_steps == self.every_n_steps - 1:
            self._raise_if_bad()

    def _raise_if_bad(self, written: str = "") -> None:
        if self._run is None or (step := int(self._step)) < 0:
            return
        named = [name for name, bad in zip(self._names, self._culprits.tolist(), strict=True) if bad]
        often = f" in {self._limit} steps in a row" if self._limit > 1 else ""
        if "loss" in named:
            named = [name for name in named if name != GRADIENT]  # follows from it
        what = "training loss" if "loss" in named else "gradient"
        raise UserError(
            f"the {what} is not finite at step {step}{often} ({', '.join(named)}): lower the learning rate, "
            f"clip gradients (trainer.gradient_clip_val=1), or train with trainer.precision=32-true"
            + (written or "; with resume=auto callbacks.finite_loss.every_n_steps=1 it is written to a file")
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        self._raise_if_bad()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad()


class FiniteValidation(Callback):
    """Stops the training if a validation figure is NaN or infinite. Early stopping would end it as a success.

    It must be listed before early stopping and the checkpoints.

    Args:
        figures: the names that are checked, if they are logged. Others, such as the error in a hole, may be NaN.

    Raises:
        UserError: in training, a figure that is not finite, with the step; also names a weight that is not finite.
    """

    def __init__(self, figures: Sequence[str] = ("val/loss", "val/psnr", "val/frechet")) -> None:
        self.figures = tuple(figures)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        logged = {
            name: float(trainer.callback_metrics[name]) for name in self.figures if name in trainer.callback_metrics
        }
        if bad := [f"{name}={value}" for name, value in logged.items() if not math.isfinite(value)]:
            weight = broken({"state_dict": pl_module.state_dict()})
            cause = f"; the weight {weight} is not finite" if weight else ""
            raise UserError(
                f"validation is not finite at step {trainer.global_step} ({', '.join(bad)}{cause}): lower the learning "
                "rate, or clip gradients (trainer.gradient_clip_val=1); the last checkpoint is from before"
            )


def _terms(outputs: object) -> dict[str, Tensor]:
    """The scalar tensors that `training_step` returned: the loss and its terms."""
    found = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
    terms = {name: value for name, value in found.items() if isinstance(value, Tensor) and value.numel() == 1}
    return terms if "loss" in terms else {}


def _written(trainer: Trainer, module: LightningModule, batch: object, step: int, buffers: dict[str, Tensor]) -> str:
    """Writes the batch of a step that was skipped, with the weights and buffers from before it.

    Returns:
        How to repeat it, as the end of a message.
    """
    if not isinstance(batch, Batch):
        return ""
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = Path(trainer.default_root_dir) / f"failed_batch{rank}.pt"
    facts: dict[str, Any] = {"step": step, "precision": str(trainer.precision), "config": module.config}
    keys: Any = module.keys
    facts |= {"keys": keys(batch), "progress": module.progress}
    weights = module.state_dict()
    weights |= {name: value for name, value in buffers.items() if name in weights}
    save({**facts, "batch": vars(batch), "state_dict": weights}, path)
    return f". python -m restoration.run.failed_batch {path} repeats the step"
