"""Targets for the backbone's estimate of the damage."""

from torch import Tensor
from torch.nn import functional as F

from restoration.backbone import Context
from restoration.batch import Batch
from restoration.flow import to_model
from restoration.objective.base import Term, TermValue
from restoration.restorer import Restorer

__all__ = ["DamageSupervision"]


# Errors below half a grey level, in [−1, 1] units, are none.
_FLOOR = 0.5 * 2 / 255


class DamageSupervision(Term):
    """Cross-entropy of the hole, and squared error of the log error. The model stays blind: these are targets only."""

    def __call__(self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor) -> TermValue:
        estimate = context.damage
        hole = F.binary_cross_entropy_with_logits(estimate.hole_logit.float(), batch.mask.float())
        known = (~batch.mask).float()
        square = (to_model(batch.clean) - to_model(batch.degraded)).square().mean(dim=1, keepdim=True)
        mean_square = (square * known).sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3)).clamp(min=1)
        log_error = (mean_square + _FLOOR**2).log() / 2
        error = (estimate.log_error - log_error).square().mean()
        return TermValue(hole + error, {"damage_hole": hole.detach(), "damage_error": error.detach()})
