"""A diffusion transformer on the pixels of patches, without an autoencoder."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone.base import Backbone
from restoration.backbone.dit_blocks import Block, patches, rms_norm, rotation, unpatch, zero
from restoration.backbone.embedding import FourierEmbedding
from restoration.errors import Range, UserError, Width
from restoration.estimator import Estimate

_Dropout = Annotated[float, Range(0, 0.9)]


class DiT(Backbone):
    """Tokens are patches of the degraded image, its estimate and the flow's state (Peebles & Xie 2023,
    arXiv:2212.09748). What does not depend on the flow's state is embedded once per image.

    With r, the embedding of r − t and the noise enter multiplied by r − t: at r = t the output is that without r, bit
    for bit. The noise's projection is 0 at first, so that a trained flow can be continued as a flow map.

    Positions are rotary, computed for the grid at hand: attention depends on offsets in patches, whatever the size of
    the image and the place of a tile in it. All tokens attend to all: the work grows with the square of their number.

    Under `torch.func.jvp` attention needs `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`. Compile with an ordinary
    pass first: after a JVP as the first call, later passes stay eager. Dropout draws from PyTorch's global generator,
    which a checkpoint does not hold: runs from one seed are equal, but a resumed run continues with other draws than an
    uninterrupted one. Without dropout, the default, they are equal.

    Args:
        patch: side of a patch in pixels; it is the stride.
        width: of a token, a multiple of 4 · heads.
        depth: blocks.
        heads: of the attention.
        embedding: width of the embedding of time.
        dropout: of what attention and the networks add to a token.
        attention_dropout: of attention weights.
        decoupled: the first two thirds of the blocks see t alone; the others and the head see r alone, by the same
            embedding, and r − t is not embedded (Decoupled MeanFlow, Lee et al. 2025, arXiv:2510.24474).

    Raises:
        UserError: the width is not a multiple of 4 · heads.
    """

    two_times = True

    def __init__(
        self,
        patch: Annotated[int, Range(1, 64)] = 4,
        width: Width = 256,
        depth: Annotated[int, Range(1, 64)] = 9,
        heads: Annotated[int, Range(1, 256)] = 4,
        embedding: Width = 96,
        dropout: _Dropout = 0.0,
        attention_dropout: _Dropout = 0.0,
        decoupled: bool = False,
    ) -> None:
        super().__init__()
        if width % (4 * heads):
            raise UserError(
                f"backbone.width={width} must be a multiple of {4 * heads}, four times backbone.heads={heads}"
            )
        self.stride, self.head_width, self.early = patch, width // heads, depth - depth // 3
        pixels = 3 * patch**2
        self.embed_condition = nn.Linear(8 * patch**2, width)
        self.embed_state = nn.Linear(pixels, width, bias=False)
        self.embed_noise = zero(nn.Linear(pixels, width, bias=False))
        self.time = FourierEmbedding(embedding)
        self.interval = None if decoupled else FourierEmbedding(embedding)
        self.blocks = nn.ModuleList(Block(width, heads, embedding, dropout, attention_dropout) for _ in range(depth))
        self.norm = rms_norm(width, elementwise_affine=False)
        self.modulation = zero(nn.Linear(embedding, 2 * width))
        self.head = zero(nn.Linear(width, pixels))
        # A linear path from the input to the output, past every nonlinearity.
        self.linear = zero(nn.Linear(pixels, pixels, bias=False))

    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        rows, columns = (size // self.stride for size in degraded.shape[-2:])
        spread = estimate.residual_std.clamp(min=1e-3).log()
        seen = torch.cat([degraded, estimate.initial, 2 * estimate.hole - 1, spread], dim=1)
        # The sum that the blocks add to stays in float32 under autocast.
        tokens = self.embed_condition(patches(seen, self.stride)).float()
        return tokens, rotation(rows, columns, self.head_width, tokens)

    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        condition, turn = features
        state = patches(x_in, self.stride)
        tokens = condition + self.embed_state(state)
        early = late = self.time(t)
        if r is not None:
            interval = r - t
            if noise is not None:
                tokens = tokens + interval[:, None, None] * self.embed_noise(patches(noise, self.stride))
            if self.interval is None:
                late = self.time(r)
            else:
                early = late = early + interval[:, None] * self.interval(interval)
        early, late = F.silu(early), F.silu(late)
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, early if number < self.early else late, turn)
        scale, shift = self.modulation(late)[:, None].chunk(2, dim=-1)
        out = self.head(torch.addcmul(shift, self.norm(tokens), 1 + scale)) + self.linear(state)
        rows, columns = (size // self.stride for size in x_in.shape[-2:])
        return unpatch(out, (rows, columns), self.stride).float()
