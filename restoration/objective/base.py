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
        two_times: whether it trains average velocities over intervals [t, r].
    """

    max_nfe: int | None = None
    two_times: bool = False

    @abstractmethod
    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        """The term on one batch.

        Args:
            field: of batch.degraded, shared by all terms.
            batch: B images.
            keys: int64 (B,), one per image and visit.
            progress: share of the training that is done, in [0, 1]; 1 in validation.
        """


class Objective(nn.Module):
    """The weighted sum of its terms and the estimator's loss, on one encoding of the batch.

    Args:
        terms: by name; None leaves one out. Without any, only the estimator is trained, several times as fast.
        weights: by the same names; 1 by default.

    Raises:
        UserError: a weight without a term.
    """

    def __init__(self, terms: Mapping[str, Term | None], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        self.weights = dict(weights or {})
        if unknown := set(self.weights) - set(self.terms):
            raise UserError(f"objective.weights names {sorted(unknown)}; the terms are {sorted(self.terms)}")

    def check_nfe(self, nfe: int) -> None:
        """UserError if no term trains what so many evaluations ask for."""
        limits: list[Any] = [term.max_nfe for term in self.terms.values()]
        if limits and all(limit is not None and limit < nfe for limit in limits):
            names = ", ".join(type(term).__name__ for term in self.terms.values())
            raise UserError(
                f"objective {names} trains at t = 0 only, so nfe={nfe} is not possible; "
                f"set evaluation.nfe=[1] sampler={'mean_flow' if self.two_times else 'euler'} sampler.nfe=1"
            )

    @property
    def two_times(self) -> bool:
        """Whether any term trains intervals [t, r]."""
        return any(term.two_times for term in self.terms.values())

    def check_restorer(self, restorer: Restorer) -> None:
        """UserError if nothing is trained, or terms, backbone, sampler and source disagree on intervals [t, r]."""
        backbone, sampler = restorer.backbone, restorer.sampler
        if not self.terms and not any(weight.requires_grad for weight in restorer.estimator.parameters()):
            raise UserError("objective.terms is empty, and the estimator has nothing to train; give at least one term")
        terms = [f"objective {type(term).__name__}" for term in self.terms.values() if term.two_times]
        if sampler.two_times and not terms:
            raise UserError(
                f"sampler {type(sampler).__name__} needs an objective of intervals; choose objective=trajectory, "
                "mean_flow or interval_splitting, or another sampler"
            )
        if terms and not backbone.two_times:
            raise UserError(
                f"{terms[0]} needs two times, and backbone {type(backbone).__name__} takes one; set "
                "backbone.two_times=true"
            )
        if terms and restorer.source.noise_level == 0:
            raise UserError(f"{terms[0]} needs a source with noise: one step would be a regression; set source=noise")

    def forward(
        self, restorer: Restorer, batch: Batch, keys: Tensor, progress: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (), and by name what to log: each term's loss and its further scalars.

        Args:
            restorer: in training.
            batch: B images.
            keys: int64 (B,), one per image and visit.
            progress: share of the training that is done, in [0, 1].
        """
        given = restorer.estimator.training and restorer.estimator.condition_on_mask
        mask, degraded = batch.mask if given else None, to_model(batch.degraded)
        total = torch.zeros((), device=batch.clean.device)
        log: dict[str, Tensor] = {}
        if self.terms:
            field = restorer.field(batch.degraded, mask)
            estimate = field.estimate
            for name, term in self.terms.items():
                value = term(field, batch, fold(keys, name), progress)
                total = total + self.weights.get(name, 1.0) * value.loss
                log |= {name: value.loss.detach(), **value.log}
        else:  # without an encoding
            estimate = restorer.estimator(degraded, mask)
        parts = restorer.estimator.loss(estimate, degraded, to_model(batch.clean), batch.mask)
        log |= {f"estimator_{name}": loss.detach() for name, loss in parts.items()}
        return (total + torch.stack(list(parts.values())).sum() if parts else total), log
