"""Embedding of the flow's time."""

import math

import torch
from torch import Tensor, nn


class FourierEmbedding(nn.Module):
    """Sines and cosines of t, then a small network.

    The bandwidth is limited (at most 8 periods over [0, 1], no factor of 1000), which keeps the derivative with
    respect to t small.

    Args:
        width: of the embedding.
        frequencies: π, 2π, … 16π.
    """

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * torch.arange(1, frequencies + 1), persistent=False)
        self.network = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(B, width) of times t (B,) in [0, 1]."""
        phase = t[:, None] * self.frequencies
        return self.network(torch.cat([phase.sin(), phase.cos()], dim=1))
