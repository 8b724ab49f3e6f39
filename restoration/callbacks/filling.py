"""Alarms of a restorer that does not fill holes: it leaves them as they are, or paints one colour or noise."""

import logging
from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from restoration.batch import Batch
from restoration.errors import Count, Positive, Range, Share
from restoration.keyed import fold
from restoration.metrics.image import gradient_energy

log = logging.getLogger(__name__)


class FillingAlarms(Callback):
    """Restores the first validation images twice, from different noise, and looks into the holes.

    It uses the restorer's own sampler and number of evaluations, and the averaged weights if there are any. It logs

    - `val/hole_change`: ‖restored − degraded‖² / ‖clean − degraded‖² in the holes; 0 is "output = input";
    - `val/hole_texture`: gradient energy in the holes, restored / clean; 0 is a constant colour, 1 is right;
    - `val/hole_spread`: standard deviation over the two results, mean over the holes; 0 means that the noise is unused.

    A figure beyond its limit in several validations in a row is one warning, which names it.

    Args:
        images: how many validation images, from the start.
        least_change, least_texture: the limits. The mean of all possible fillings, the answer of a regression, has a
            texture of 0.03 to 0.1.
        most_texture: the limit above which it is noise.
        patience: validations in a row.
    """

    def __init__(
        self,
        images: Annotated[int, Range(1, 10_000)] = 64,
        least_change: Share = 0.1,
        least_texture: Share = 0.01,
        most_texture: Positive = 3.0,
        patience: Count = 3,
    ) -> None:
        self.images = images
        self.limits = {
            "holes are left as they are (output = input)": ("val/hole_change", "below", least_change),
            "holes are filled with a constant colour": ("val/hole_texture", "below", least_texture),
            "holes are filled with noise": ("val/hole_texture", "above", most_texture),
        }
        self.patience = patience
        self._beyond = dict.fromkeys(self.limits, 0)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = 0
        self._sums = torch.zeros(6, dtype=torch.float64)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        few = batch.first(max(0, self.images - self._seen))
        self._seen += len(batch) * trainer.world_size
        if not len(few) or not few.mask.any():
            return
        restorer: Any = pl_module.restorer
        with trainer.precision_plugin.val_step_context():
            one, other = (restorer.restore(few.degraded, fold(0, "alarms", n, few.index)).images for n in range(2))
        self._sums += sums(one.float(), other.float(), few).cpu()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = self._sums
        if trainer.world_size > 1:
            reduced = trainer.strategy.reduce(total.to(pl_module.device), reduce_op="sum")
            assert isinstance(reduced, Tensor)
            total = reduced.cpu()
        change, damage, texture, clean, spread, pixels = total.tolist()
        if not pixels:
            return
        figures = {"val/hole_spread": spread / pixels}
        figures |= {"val/hole_change": change / damage} if damage else {}
        figures |= {"val/hole_texture": texture / clean} if clean else {}
        for name, value in figures.items():
            pl_module.log(name, value)
        if trainer.sanity_checking:
            return
        for what, (name, side, limit) in self.limits.items():
            if name not in figures:
                continue
            beyond = figures[name] < limit if side == "below" else figures[name] > limit
            self._beyond[what] = self._beyond[what] + 1 if beyond else 0
            if self._beyond[what] == self.patience and trainer.is_global_zero:
                log.warning(
                    "%s: %s is %.3g, %s %g in %s validations in a row (step %s); the spread over samples is %.3g",
                    *(what, name, figures[name], side, limit),
                    *(self.patience, trainer.global_step, figures["val/hole_spread"]),
                )

    def state_dict(self) -> dict[str, Any]:
        return {"beyond": dict(self._beyond)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._beyond.update(state_dict.get("beyond", {}))


def sums(one: Tensor, other: Tensor, batch: Batch) -> Tensor:
    """Sums over the holes of a batch, float64 (6,): what `FillingAlarms` divides.

    Args:
        one, other: (B, 3, H, W) in [0, 1], two results for the batch's images.
        batch: B images.

    Returns:
        Squared change of the restored images, squared error of the degraded ones, gradient energy of the restored and
        the clean ones, sum of the standard deviations over both results, and the number of values in the holes.
    """
    hole = batch.mask.expand_as(one)
    one, other = one.clamp(0, 1), other.clamp(0, 1)
    deviation = torch.stack([one, other]).std(dim=0)
    energies = [gradient_energy(images, batch.mask).double().sum() for images in (one, batch.clean)]
    values = [(one - batch.degraded)[hole].square(), (batch.clean - batch.degraded)[hole].square(), deviation[hole]]
    change, damage, spread = (value.double().sum() for value in values)
    return torch.stack([change, damage, *energies, spread, hole.sum().double()])
