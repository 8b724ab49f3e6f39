"""A guard that stops a diverged training."""

from collections.abc import Mapping

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from restoration.errors import UserError, whole_number

FP16_PATIENCE = 20
"""Under fp16 a gradient scaler starts too high, and skips overflowing steps until it fits."""


class FiniteLoss(Callback):
    """Stops the training if the loss is NaN or infinite. Lightning would train on and report success.

    The result is kept on the loss's device. On a GPU it is read every 25 steps and before each validation and
    checkpoint, so that the queue of kernels is not drained every step and no checkpoint holds broken weights; on a
    CPU it is read every step.

    Args:
        patience: number of consecutive bad steps to stop at. With a gradient scaler (fp16) at least 20.

    Raises:
        UserError: patience below 1; in training, a loss that is not finite, with the step and the terms.
    """

    def __init__(self, patience: int = 1) -> None:
        self.patience = whole_number("callbacks.finite_loss.patience", patience, 1)
        self._names: list[str] = []
        self._run: Tensor | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run = None
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._limit = max(self.patience, FP16_PATIENCE) if scaled else self.patience

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        terms = _terms(outputs)
        if not terms:
            return
        finite = torch.isfinite(torch.stack([term.detach().float().reshape(()) for term in terms.values()]))
        if self._run is None or list(terms) != self._names:
            self._names = list(terms)
            self._run = torch.zeros((), dtype=torch.int64, device=finite.device)
            self._step = torch.full_like(self._run, -1)
            self._culprits = torch.zeros_like(finite)
        # Length of the current run of bad steps; the first run that is too long stores its step and its terms. Only
        # the loss counts: a term may be NaN for good reason, such as a time interval without a draw.
        self._run = torch.where(finite[self._names.index("loss")], 0, self._run + 1)
        hit = (self._run >= self._limit) & (self._step < 0)
        self._step = torch.where(hit, trainer.global_step, self._step)
        self._culprits = torch.where(hit, ~finite, self._culprits)
        if not finite.is_cuda or batch_idx % 25 == 24:
            self._raise_if_bad()

    def _raise_if_bad(self) -> None:
        if self._run is None or (step := int(self._step)) < 0:
            return
        named = [name for name, bad in zip(self._names, self._culprits.tolist(), strict=True) if bad]
        often = f" in {self._limit} steps in a row" if self._limit > 1 else ""
        raise UserError(
            f"the training loss is not finite at step {step}{often} ({', '.join(named)}): lower the learning rate, "
            f"clip gradients (trainer.gradient_clip_val=1), or train with trainer.precision=32-true"
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        self._raise_if_bad()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._raise_if_bad()


def _terms(outputs: object) -> dict[str, Tensor]:
    """The scalar tensors that `training_step` returned: the loss and its terms."""
    found = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
    terms = {name: value for name, value in found.items() if isinstance(value, Tensor) and value.numel() == 1}
    return terms if "loss" in terms else {}
