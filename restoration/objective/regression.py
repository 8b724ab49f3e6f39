"""Regression to the clean image."""

import torch
from torch import Tensor

from restoration.batch import Batch
from restoration.flow import ConditionalField, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError


class Regression(Term):
    """The error of the clean image predicted at t = 0. With source=degraded, σ = 0, it is the classical restorer.

    Args:
        error: of the prediction.
    """

    max_nfe = 1

    def __init__(self, error: PixelError) -> None:
        super().__init__()
        self.error = error

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        x_0 = field.start(fold(keys, "noise"))
        prediction = field.clean(x_0, torch.zeros(len(batch), device=x_0.device))
        return TermValue(self.error(prediction, to_model(batch.clean), batch.mask).mean())
