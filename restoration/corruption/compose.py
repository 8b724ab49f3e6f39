"""Compositions of operators."""

from collections.abc import Mapping

import torch
from torch import Tensor

from restoration.corruption.base import Operator, Parameters
from restoration.keyed import fold, uniform


def _rows(parameters: Parameters, rows: Tensor) -> Parameters:
    """The parameters of some of the images."""
    return {name: _rows(value, rows) if isinstance(value, dict) else value[rows] for name, value in parameters.items()}


class Sequence(Operator):
    """Operators applied in order, at the same severity; the hole is the union of their holes.

    Args:
        steps: operators by name. The name is part of the key of their draws, and names their parameters.
    """

    def __init__(self, steps: Mapping[str, Operator]) -> None:
        self.steps = dict(steps)

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {name: step.sample(severity, fold(keys, name), size) for name, step in self.steps.items()}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for name, step in self.steps.items():
            images, hole = step.apply(images, parameters[name])
            mask = mask | hole
        return images, mask

    def kinds(self, parameters: Parameters) -> list[str] | None:
        kinds = [step.kinds(parameters[name]) for name, step in self.steps.items()]
        known = [names for names in kinds if names is not None]
        return [" + ".join(names) for names in zip(*known, strict=True)] if known else None


class OneOf(Operator):
    """One of several operators per image, with equal probability.

    Args:
        choices: operators by name. The name is part of the key of their draws, and names their parameters.
    """

    def __init__(self, choices: Mapping[str, Operator]) -> None:
        self.choices = dict(choices)

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        choice = (uniform(fold(keys, "one_of"), 1)[:, 0] * len(self.choices)).long()
        drawn = {name: operator.sample(severity, fold(keys, name), size) for name, operator in self.choices.items()}
        return {"choice": choice, **drawn}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        degraded = images.clone()
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        for position, (name, operator) in enumerate(self.choices.items()):
            rows = (parameters["choice"] == position).nonzero()[:, 0]
            if len(rows):
                chosen = rows.to(images.device)
                degraded[chosen], mask[chosen] = operator.apply(images[chosen], _rows(parameters[name], rows))
        return degraded, mask

    def kinds(self, parameters: Parameters) -> list[str]:
        names = list(self.choices)
        return [names[position] for position in parameters["choice"].tolist()]
