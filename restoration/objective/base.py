"""What training minimises: terms that add up."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.flow import ConditionalField, to_model
from restoration.keyed import fold
from restoration.restorer import Restorer


@dataclass
class TermValue:
    """A term's loss (), differentiable, and further scalars to log, by name."""

    loss: Tensor
    log: dict[str, Tensor] = field(default_factory=dict)


class Term(nn.Module, ABC):
    """One part of the objective. It may have parameters of its own.

    Attributes:
        max_nfe: how many evaluations a restorer trained on this term alone can use; None is any number.
    """

    max_nfe: int | None = None

    @abstractmethod
    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor) -> TermValue:
        """The term on one batch.

        Args:
            field: of batch.degraded, shared by all terms.
            batch: B images.
            keys: int64 (B,), one per image and visit.
        """


class Objective(nn.Module):
    """The weighted sum of its terms and the estimator's loss, on one encoding of the batch.

    Args:
        terms: by name; None leaves one out.
        weights: by the same names; 1 by default.

    Raises:
        UserError: no term, or a weight without a term.
    """

    def __init__(self, terms: Mapping[str, Term | None], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        self.weights = dict(weights or {})
        if not self.terms:
            raise UserError("objective.terms is empty; give at least one term")
        if unknown := set(self.weights) - set(self.terms):
            raise UserError(f"objective.weights names {sorted(unknown)}; the terms are {sorted(self.terms)}")

    def check_nfe(self, nfe: int) -> None:
        """UserError if no term trains what so many evaluations ask for."""
        limits: list[Any] = [term.max_nfe for term in self.terms.values()]
        if all(limit is not None and limit < nfe for limit in limits):
            names = ", ".join(type(term).__name__ for term in self.terms.values())
            raise UserError(
                f"objective {names} trains at t = 0 only, so nfe={nfe} is not possible; "
                "set evaluation.nfe=[1] sampler=euler sampler.nfe=1"
            )

    def forward(self, restorer: Restorer, batch: Batch, keys: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (), and by name what to log: each term's loss and its further scalars.

        Args:
            restorer: in training.
            batch: B images.
            keys: int64 (B,), one per image and visit.
        """
        given = restorer.estimator.training and restorer.estimator.condition_on_mask
        field = restorer.field(batch.degraded, batch.mask if given else None)
        total = torch.zeros((), device=batch.clean.device)
        log: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            value = term(field, batch, fold(keys, name))
            total = total + self.weights.get(name, 1.0) * value.loss
            log |= {name: value.loss.detach(), **value.log}
        images = (to_model(batch.degraded), to_model(batch.clean), batch.mask)
        parts = restorer.estimator.loss(field.estimate, *images)
        log |= {f"estimator_{name}": loss.detach() for name, loss in parts.items()}
        return (total + torch.stack(list(parts.values())).sum() if parts else total), log
