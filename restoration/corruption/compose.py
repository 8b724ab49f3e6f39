"""Compositions of operators."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from restoration.corruption.base import Operator, Parameters, Severity
from restoration.errors import Share, UserError
from restoration.keyed import fold, uniform


def _rows(parameters: Parameters, rows: Tensor) -> Parameters:
    """The parameters of some of the images."""
    return {name: _rows(value, rows) if isinstance(value, dict) else value[rows] for name, value in parameters.items()}


class Composition(Operator):
    """Operators by name. The name is part of the key of their draws, and names their severities and parameters.

    Args:
        parts: the operators.
    """

    def __init__(self, parts: Mapping[str, Operator]) -> None:
        if not parts:
            raise UserError("corruption.operator: a composition needs at least one operator")
        self.parts = dict(parts)

    @abstractmethod
    def draw(self, severity: Severity, keys: Tensor, size: tuple[int, int]) -> tuple[dict[str, Tensor], Parameters]: ...

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return self.draw(Severity(shared=severity), keys, size)[1]

    def hole_parts(self) -> set[str]:
        return {_joined(name, inner) for name, part in self.parts.items() for inner in part.hole_parts()}


def _joined(name: str, inner: str) -> str:
    return f"{name}.{inner}" if inner else name


class Sequence(Composition):
    """Operators applied in order; the hole is the union of their holes.

    Args:
        steps: operators by name.
        skip: by the same names, the probability that a step is left out of an image; 0 by default.
    """

    def __init__(self, steps: Mapping[str, Operator], skip: Mapping[str, Share] | None = None) -> None:
        super().__init__(steps)
        self.skip = dict(skip or {})
        if unknown := set(self.skip) - set(self.parts):
            raise UserError(f"corruption.operator.skip names {sorted(unknown)}; the steps are {sorted(self.parts)}")
        for name, share in self.skip.items():
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"corruption.operator.skip.{name}={share}: it must be a probability in [0, 1]")

    def draw(self, severity: Severity, keys: Tensor, size: tuple[int, int]) -> tuple[dict[str, Tensor], Parameters]:
        severities: dict[str, Tensor] = {}
        parameters: Parameters = {}
        for name, step in self.parts.items():
            own = replace(severity, skip=self.skip.get(name, 0.0))
            inner, parameters[name] = step.draw(own, fold(keys, name), size)
            severities |= {_joined(name, part): value for part, value in inner.items()}
        return severities, parameters

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for name, step in self.parts.items():
            images, hole = step.apply(images, parameters[name])
            mask = mask | hole
        return images, mask


class OneOf(Composition):
    """One of several operators per image, with equal probability.

    Args:
        choices: operators by name.
    """

    def __init__(self, choices: Mapping[str, Operator]) -> None:
        super().__init__(choices)

    def draw(self, severity: Severity, keys: Tensor, size: tuple[int, int]) -> tuple[dict[str, Tensor], Parameters]:
        choice = (uniform(fold(keys, "one_of"), 1)[:, 0] * len(self.parts)).long()
        severities: dict[str, Tensor] = {}
        parameters: Parameters = {"choice": choice}
        for position, (name, operator) in enumerate(self.parts.items()):
            inner, parameters[name] = operator.draw(severity, fold(keys, name), size)
            severities |= {_joined(name, part): value * (choice == position) for part, value in inner.items()}
        return severities, parameters

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        degraded = images.clone()
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for position, (name, operator) in enumerate(self.parts.items()):
            rows = (parameters["choice"] == position).nonzero()[:, 0]
            if len(rows):
                chosen = rows.to(images.device)
                degraded[chosen], mask[chosen] = operator.apply(images[chosen], _rows(parameters[name], rows))
        return degraded, mask
