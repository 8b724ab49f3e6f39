"""Targets for the backbone's estimate of the damage."""

from torch import Tensor
from torch.nn import functional as F

from restoration.backbone import Context
from restoration.batch import Batch
from restoration.objective.base import Term, TermValue
from restoration.restorer import Restorer

__all__ = ["DamageSupervision"]


class DamageSupervision(Term):
    """Cross-entropy of the hole and squared error of the severity. The model stays blind: these are targets only."""

    def __call__(self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor) -> TermValue:
        estimate = context.damage
        hole = F.binary_cross_entropy_with_logits(estimate.hole_logit.float(), batch.mask.float())
        severity = (estimate.severity - batch.severity).square().mean()
        return TermValue(hole + severity, {"damage_hole": hole.detach(), "damage_severity": severity.detach()})
