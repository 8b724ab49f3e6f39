"""Regression to the clean image."""

import torch
from torch import Tensor

from restoration.backbone import Context
from restoration.batch import Batch
from restoration.flow import to_model
from restoration.keyed import fold
from restoration.objective.base import PixelError, Term, TermValue
from restoration.restorer import Restorer

__all__ = ["Regression"]


class Regression(Term):
    """The error of the clean image predicted at t = 0; with the source degraded, σ = 0, the classical restorer.

    Args:
        error: of the prediction.
    """

    def __init__(self, error: PixelError) -> None:
        self.error = error

    def __call__(self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor) -> TermValue:
        x_0 = restorer.start(context.mean, context.deviation, fold(keys, "noise"))
        prediction = restorer.predict(x_0, torch.zeros(len(batch), device=x_0.device), context)
        return TermValue(self.error(prediction, to_model(batch.clean), batch.mask).mean())
