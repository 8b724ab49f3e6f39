"""Parts of the diffusion transformer: tokens of an image, rotary positions, attention and blocks."""

from functools import partial

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

# cos and sin (N, head width / 2) of each token's angles.
Rotation = tuple[Tensor, Tensor]

# Angles turn by one radian per patch down to nearly this many times less. Text uses 10,000; the sides of images are a
# few dozen patches.
_ROTARY_BASE = 100.0

rms_norm = partial(nn.RMSNorm, eps=1e-6)


def patches(images: Tensor, side: int) -> Tensor:
    """(B, N, C · side²), one row per patch of images (B, C, H, W), row by row."""
    return F.pixel_unshuffle(images, side).flatten(2).mT


def unpatch(tokens: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """The inverse of `patches`, given the rows and columns of the grid."""
    return F.pixel_shuffle(tokens.mT.unflatten(2, grid), side)


def rotation(rows: int, columns: int, width: int, like: Tensor) -> Rotation:
    """Axial rotary positions (Su et al. 2021, arXiv:2104.09864) of any grid: half of the angles turn with the row, half
    with the column.

    Args:
        rows, columns: of the grid of N = rows · columns tokens.
        width: of a head, a multiple of 4.
        like: gives device and dtype.
    """
    count = width // 4
    frequencies = _ROTARY_BASE ** -(torch.arange(count, device=like.device) / count)
    down, right = (torch.arange(size, device=like.device)[:, None] * frequencies for size in (rows, columns))
    angles = torch.cat([down[:, None].expand(-1, columns, -1), right.expand(rows, -1, -1)], dim=-1).flatten(0, 1)
    return angles.cos().to(like), angles.sin().to(like)


def rotate(heads: Tensor, turn: Rotation) -> Tensor:
    """Queries or keys (…, N, width) turned by their positions: products depend on differences of positions alone."""
    (cos, sin), (first, second) = turn, heads.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, with rotary positions and normalised queries and keys.

    Normalisation bounds the logits (Dehghani et al. 2023, arXiv:2302.05442), and with them the derivatives in t.
    """

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm, self.key_norm = rms_norm(width // heads), rms_norm(width // heads)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, turn: Rotation) -> Tensor:
        """(B, N, width) from the same."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.normalised(query, self.query_norm, turn), self.normalised(key, self.key_norm, turn)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))

    @staticmethod
    def normalised(heads: Tensor, norm: nn.RMSNorm, turn: Rotation) -> Tensor:
        """Queries or keys (B, heads, N, width of a head), normalised and turned in the weights' precision."""
        return rotate(norm(heads.to(norm.weight.dtype)), turn).to(heads.dtype)


class Block(nn.Module):
    """Attention, then a network on each token; both are scaled, shifted and gated by an embedding (adaLN-zero).

    The gates are 0 at first: the block is then the identity.
    """

    def __init__(self, width: int, heads: int, embedding: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(rms_norm(width, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(width, heads, dropout, attention_dropout)
        self.network = Mlp(width, 4 * width, drop=dropout)
        self.modulation = zero(nn.Linear(embedding, 6 * width))

    def forward(self, tokens: Tensor, embedding: Tensor, turn: Rotation) -> Tensor:
        """(B, N, width) from the same, and an embedding (B, embedding)."""
        scale, shift, gate, scale_2, shift_2, gate_2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        hidden = torch.addcmul(shift, self.norms[0](tokens), 1 + scale)
        tokens = torch.addcmul(tokens, gate, self.attention(hidden, turn))
        hidden = torch.addcmul(shift_2, self.norms[1](tokens), 1 + scale_2)
        return torch.addcmul(tokens, gate_2, self.network(hidden))


def zero(layer: nn.Linear) -> nn.Linear:
    """The layer, whose output is 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
