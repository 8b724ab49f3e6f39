"""The exponential moving average of the weights."""

from typing import Annotated, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from restoration.errors import Range, UserError


class EMA(WeightAveraging):
    """Averages the network over a share of the steps so far (power-function EMA; Karras et al. 2024, "EDM2").

    Validation, checkpoints and everything made from them use the averaged network; training continues with its own
    weights. Batch statistics are averaged alike. Other parts of the module, such as the objective, are not averaged.

    Args:
        horizon: share of the steps so far that the average covers, in (0, 1].

    Raises:
        UserError: a horizon outside (0, 1].
    """

    def __init__(self, horizon: Annotated[float, Range(0, 1, above=True)] = 0.1) -> None:
        if not 0 < horizon <= 1:
            raise UserError(f"callbacks.ema.horizon={horizon}: a share in (0, 1] is needed")
        self.horizon = horizon
        # Batch statistics belong to the weights: those of the last few batches alone differ from one step to the next.
        super().__init__(use_buffers=True, multi_avg_fn=self._average)
        self._swapped = False

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], updates: int | Tensor) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 / (self.horizon * float(updates) + 1))
        else:  # counters
            torch._foreach_copy_(averaged, current)

    # Lightning's methods average whatever module they are given; here that is the network.

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._average_model = AveragedModel(pl_module.network, pl_module.device, use_buffers=True, **self._kwargs)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, pl_module.network, *arguments)

    def _swap_models(self, pl_module: Any) -> None:
        super()._swap_models(pl_module.network)
        self._swapped = not self._swapped

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        # In the middle of validation the two are exchanged, and a checkpoint follows.
        if self._swapped:
            self._swap_models(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep both: the last checkpoint is written after this, and a longer run resumes from its raw weights."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        assert self._average_model is not None
        prefix = f"{pl_module.trains}."
        state, average = checkpoint["state_dict"], self._average_model.state_dict()
        checkpoint["current_model_state"] = {name: state[name] for name in state if name.startswith(prefix)}
        averaged = {
            prefix + name.removeprefix("module."): average.pop(name)
            for name in list(average)
            if name.startswith("module.")
        }
        checkpoint["state_dict"] = {**state, **averaged}
        checkpoint["averaging_state"] = average

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None or "current_model_state" not in checkpoint:
            return
        prefix = f"{pl_module.trains}."
        averaged = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)}
        averaged = {f"module.{name.removeprefix(prefix)}": value for name, value in averaged.items()}
        self._average_model.load_state_dict({**averaged, **checkpoint["averaging_state"]})
        raw = {name.removeprefix(prefix): value for name, value in checkpoint["current_model_state"].items()}
        pl_module.network.load_state_dict(raw)
