"""Learning rates that fall when a validation metric no longer improves."""

from typing import Annotated, Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from restoration.errors import Count, NotNegative, Range, Share, UserError


class Plateau(Callback):
    """torch's `ReduceLROnPlateau` on the peak learning rates of all groups; what the schedule makes of them stays.

    Args:
        monitor: the validation metric.
        mode: "max" or "min".
        factor: of each fall.
        patience: validations without improvement before it.
        min_delta: the least improvement that counts.
        lowest: share of the first learning rate below which it does not fall.

    Raises:
        UserError: in training, the metric is not logged.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"] = "max",
        factor: Annotated[float, Range(0, 0.999, above=True)] = 0.3,
        patience: Count = 3,
        min_delta: NotNegative = 0.0,
        lowest: Share = 1e-3,
    ) -> None:
        self.monitor = monitor
        self._share = SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
        self._plateau = ReduceLROnPlateau(
            self._share,
            mode,
            factor,
            patience - 1,  # torch acts on the validation after so many
            threshold=min_delta,
            threshold_mode="abs",
            min_lr=lowest,
        )

    @property
    def share(self) -> float:
        """The present share of the first learning rate."""
        return float(self._share.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        kept = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        return {"share": self.share, **{name: getattr(self._plateau, name) for name in kept}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The groups' own rates are part of the optimiser's state.
        state = dict(state_dict)
        self._share.param_groups[0]["lr"] = state.pop("share")
        self._plateau.load_state_dict(state)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise UserError(f"callbacks.plateau.monitor={self.monitor!r} is not logged; logged are {known}")
        before = self.share
        self._plateau.step(float(trainer.callback_metrics[self.monitor]))
        for group in pl_module.scheduled_groups():
            group["peak_lr"] *= self.share / before
