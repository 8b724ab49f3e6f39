"""What training minimises: terms that add up."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from restoration.backbone import Context
from restoration.batch import Batch
from restoration.keyed import fold
from restoration.restorer import Restorer

__all__ = [
    "AdaptiveSquaredError",
    "LogSquaredError",
    "Objective",
    "PixelError",
    "RegionLogSquaredError",
    "SquaredError",
    "Term",
    "TermValue",
]


@dataclass
class TermValue:
    """A term's loss (), differentiable, and what else it wants logged, scalars by name."""

    loss: Tensor
    log: dict[str, Tensor] = field(default_factory=dict)


class Term(ABC):
    """One part of the objective."""

    @abstractmethod
    def __call__(self, restorer: Restorer, batch: Batch, context: Context, keys: Tensor) -> TermValue:
        """The term on one batch.

        Args:
            restorer: in training.
            batch: B images.
            context: of batch.degraded, shared by all terms.
            keys: int64 (B,), one per image and visit.
        """


class PixelError(ABC):
    """How far two pictures are apart, per image."""

    @abstractmethod
    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """(B,) from (B, 3, H, W) twice and the hole, bool (B, 1, H, W)."""


class SquaredError(PixelError):
    """The mean over pixels of the squared difference; minimised by the posterior mean."""

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return (prediction - target).square().mean(dim=(1, 2, 3))


class AdaptiveSquaredError(PixelError):
    """‖Δ‖² / sg(‖Δ‖² + c)^p: images with a large error count for less (Geng et al. 2025, "Mean flows").

    At p = 1 the gradient is that of `LogSquaredError`; p = 0 is `SquaredError`.

    Args:
        power: p in [0, 1].
        floor: c, of the mean over pixels, in the flow's space.
    """

    def __init__(self, power: float = 0.5, floor: float = 1e-3) -> None:
        self.power = power
        self.floor = floor

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        error = (prediction - target).square().mean(dim=(1, 2, 3))
        return error / (error.detach() + self.floor) ** self.power


class LogSquaredError(PixelError):
    """The logarithm of each image's mean squared difference: the mean PSNR, so that easy images count as much.

    Args:
        floor: added to the squared difference, in the flow's space; below it nothing is left to gain.
    """

    def __init__(self, floor: float = 1e-4) -> None:
        self.floor = floor

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return ((prediction - target).square().mean(dim=(1, 2, 3)) + self.floor).log()


class RegionLogSquaredError(PixelError):
    """The mean of two such logarithms, of the hole and of the known region: their PSNRs.

    In one logarithm a large hole's error drowns that of the known region, and a small hole's drowns in it.

    Args:
        floor: as in `LogSquaredError`.
    """

    def __init__(self, floor: float = 1e-4) -> None:
        self.floor = floor

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        square = (prediction - target).square().mean(dim=1, keepdim=True)
        total, regions = torch.zeros_like(square[:, 0, 0, 0]), torch.zeros_like(square[:, 0, 0, 0])
        for region in (mask, ~mask):
            pixels = region.sum(dim=(1, 2, 3))
            error = (square * region).sum(dim=(1, 2, 3)) / pixels.clamp(min=1)
            total = total + torch.where(pixels > 0, (error + self.floor).log(), 0.0)
            regions = regions + (pixels > 0)
        return total / regions


class Objective:
    """The weighted sum of its terms, on one encoding of the batch.

    Args:
        terms: by name.
        weights: by the same names; 1 where none is given.

    Raises:
        ValueError: a weight without a term.
    """

    def __init__(self, terms: Mapping[str, Term], weights: Mapping[str, float] | None = None) -> None:
        self.terms = dict(terms)
        self.weights = dict(weights or {})
        if unknown := set(self.weights) - set(self.terms):
            raise ValueError(f"objective.weights names {sorted(unknown)}; the terms are {sorted(self.terms)}")

    def __call__(self, restorer: Restorer, batch: Batch, keys: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (), and by name what to log: each term's loss and its own figures."""
        context = restorer.encode(batch.degraded)
        total = torch.zeros((), device=batch.clean.device)
        log = {}
        for name, term in self.terms.items():
            value = term(restorer, batch, context, fold(keys, name))
            total = total + self.weights.get(name, 1.0) * value.loss
            log[name] = value.loss.detach()
            log.update(value.log)
        return total, log
