"""Optimisers of timm's factory, by name."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from restoration.errors import NotNegative, UserError


class TimmOptimizer:
    """Makes an optimiser by `timm.optim.create_optimizer_v2`, for instance SGD, AdamW, Lion or Muon.

    timm's Muon orthogonalises matrices, and kernels of convolutions flattened to (out, in · height · width); vectors
    get AdamW steps (Jordan et al. 2024, "Muon"). torch's own takes matrices only.

    Args:
        name: one of `timm.optim.list_optimizers`.
        lr: peak learning rate.
        weight_decay: of kernels and matrices; groups of parameters may have their own.
        options: further arguments of the optimiser, such as momentum or betas.

    Raises:
        UserError: no optimiser of this name, one whose library is missing, or options that it does not take.
    """

    def __init__(
        self, name: str, lr: NotNegative, weight_decay: NotNegative = 0.0, options: Mapping[str, Any] | None = None
    ) -> None:
        if name.removeprefix("lookahead_") not in list_optimizers():
            raise UserError(f"optimizer.name={name} is none of timm's; timm.optim.list_optimizers() has their names")
        self.arguments = {"opt": name, "lr": lr, "weight_decay": weight_decay, **(options or {})}
        try:
            self([{"params": [nn.Parameter(torch.zeros(1))]}])
        except Exception as error:  # each optimiser refuses what it does not take in its own way
            reason = str(error).splitlines()[0] if str(error) else "no message"
            raise UserError(f"optimizer.name={name} with these options: {reason}") from error

    def __call__(self, groups: Iterable[dict[str, Any]]) -> Optimizer:
        """The optimiser of these groups of parameters."""
        return create_optimizer_v2(list(groups), **self.arguments)
