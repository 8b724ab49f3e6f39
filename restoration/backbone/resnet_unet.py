"""A U-Net on a pretrained encoder that sees each degraded image once."""

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone.base import Backbone
from restoration.backbone.embedding import FourierEmbedding
from restoration.backbone.encoder import Encoder
from restoration.errors import Range, UserError, Width
from restoration.estimator import Estimate, known_statistics

# What `skips` gives per block: the skip's half of its two linear maps, or None for a level without a skip.
Cached = list[tuple[Tensor, Tensor] | None]


class Block(nn.Module):
    """A residual block on a state that changes with x_t, and on a skip connection that does not.

    Its first convolution and its shortcut are linear in their concatenated input. Both are split in two, and the half
    that sees the skip is computed once per image. Operations are in place where possible: half of the sampling time
    on a CPU is memory traffic.
    """

    def __init__(self, state: int, skip: int, width: int, embedding: int) -> None:
        super().__init__()
        self.from_state = nn.Conv2d(state, width, 3, padding=1)
        self.shortcut = nn.Conv2d(state, width, 1)
        self.from_skip = nn.Conv2d(skip, width, 3, padding=1, bias=False) if skip else None
        self.skip_shortcut = nn.Conv2d(skip, width, 1, bias=False) if skip else None
        self.group_norm = group_norm(width)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def cache(self, skip: Tensor) -> tuple[Tensor, Tensor]:
        """The skip's half of both linear maps."""
        assert self.from_skip is not None and self.skip_shortcut is not None
        return self.from_skip(skip), self.skip_shortcut(skip)

    def forward(self, state: Tensor, embedding: Tensor, cached: tuple[Tensor, Tensor] | None = None) -> Tensor:
        hidden, shortcut = self.from_state(state), self.shortcut(state)
        if cached is not None:
            hidden, shortcut = hidden.add_(cached[0]), shortcut.add_(cached[1])
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(torch.addcmul(shift, self.group_norm(hidden), 1 + scale), inplace=True)
        return self.out(hidden).add_(shortcut)


class ResNetUNet(Backbone):
    """Encode once: the encoder sees the initial estimate, the decoder sees the flow's state at every scale.

    The last block runs at half resolution and ends in pixel-shuffle. A stem of its own gives the network what the
    frozen encoder cannot: fine detail, and where the hole is.

    Args:
        encoder: of the initial estimate.
        widths: channels of the decoder from the finest level (half resolution) down, one for each halving. Levels
            without an encoder map of their stride have no skip: the finest beside an encoder that starts at a quarter,
            and those below the encoder's last, which enlarge the receptive field.
        depth: residual blocks at each level.
        embedding: width of the embedding of time and degradation.
        two_times: takes intervals [t, r]. Their length is embedded, and a stem sees the noise; both are initialised
            and multiplied such that for r = t, and at first for all r, the network is the one without them.
        decoupled: the deeper half of the levels sees t only, the other half r only (Lee et al. 2026, "Decoupled
            MeanFlow"), instead of an embedding of the length.

    Raises:
        UserError: too few widths to reach the encoder's last map, or decoupled without two_times.
    """

    def __init__(
        self,
        encoder: Encoder,
        widths: tuple[Width, ...] = (64, 128, 256, 384),
        depth: Annotated[int, Range(1, 64)] = 2,
        embedding: Width = 256,
        two_times: bool = False,
        decoupled: bool = False,
    ) -> None:
        super().__init__()
        if decoupled and not two_times:
            raise UserError("backbone.decoupled=true needs two times: add backbone.two_times=true")
        strides = [2 ** (level + 1) for level in range(len(widths))]
        if encoder.strides[-1] not in strides:
            raise UserError(
                f"backbone.widths={list(widths)}: the encoder's maps have strides {encoder.strides}, so at least "
                f"{encoder.strides[-1].bit_length() - 1} widths are needed, one for each halving"
            )
        self.encoder = encoder
        self.strides = strides
        self.stride = strides[-1]
        local = max(16, widths[0] // 2)
        self.detail = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(28, local, 3, padding=1), nn.SiLU(), nn.Conv2d(local, local, 3, padding=1)
        )
        self.time = FourierEmbedding(embedding)
        self.describe = nn.Linear(2 * local + 1, embedding)
        # The state at every scale, each level from the finer one.
        stems = [max(16, width // 2) for width in widths]
        self.stem = nn.ModuleList()
        for level, width in enumerate(stems):
            source = stems[level - 1] if level else 3
            self.stem.append(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(source * 4, width, 3, padding=1)))
        self.blocks = nn.ModuleList()
        self.deeper = nn.ModuleList()
        channels = dict(zip(encoder.strides, encoder.channels, strict=True))
        above = 0
        for level in reversed(range(len(widths))):
            skip = channels.get(strides[level], 0) + (local if level == 0 else 0)
            self.blocks.append(Block(above + stems[level], skip, widths[level], embedding))
            self.deeper.append(
                nn.ModuleList(Block(widths[level], 0, widths[level], embedding) for _ in range(depth - 1))
            )
            above = widths[level]
        self.norm = group_norm(above)
        self.head = nn.Conv2d(above, 12, 3, padding=1)
        # A linear path from the input to the output, past every nonlinearity.
        self.linear = nn.Conv2d(12, 12, 1, bias=False)
        for layer in (self.head, self.linear):
            nn.init.zeros_(layer.weight)
        # After all others, so that a seed gives those the same weights with and without them.
        self.two_times = two_times
        if two_times:
            entrance = nn.Conv2d(12, stems[0], 3, padding=1, bias=False)
            self.noise_stem = nn.Sequential(nn.PixelUnshuffle(2), entrance)
            nn.init.zeros_(entrance.weight)
        self.length: FourierEmbedding | None = None
        if two_times and not decoupled:
            self.length = FourierEmbedding(embedding)
            for parameter in self.length.network[2].parameters():
                nn.init.zeros_(parameter)

    def encode(self, degraded: Tensor, estimate: Estimate) -> Any:
        local, description = self.local(degraded, estimate)
        return self.skips(self.encoder(estimate.initial), local), description

    def local(self, degraded: Tensor, estimate: Estimate) -> tuple[Tensor, Tensor]:
        """Local features (B, C, H/2, W/2), and a description (B, embedding) of the degradation."""
        hole = estimate.hole
        local = self.detail(torch.cat([degraded, estimate.initial, 2 * hole - 1], dim=1))
        # The mean residual std of the surely known pixels.
        weight = (1 - 4 * hole).clamp(min=0)
        mean = (estimate.residual_std * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp(min=1)
        inputs = [known_statistics(local, hole), mean.clamp(min=1e-3).log()[:, None]]
        return local, self.describe(torch.cat(inputs, dim=1))

    def skips(self, features: list[Tensor], local: Tensor) -> Cached:
        """What each block caches of the features, deepest block first.

        Args:
            features: the encoder's maps, finest first.
            local: (B, C, H/2, W/2), joins the map of that stride.
        """
        maps = dict(zip(self.encoder.strides, features, strict=True))
        maps[2] = torch.cat([maps[2], local], dim=1) if 2 in maps else local
        return [
            block.cache(maps[stride]) if stride in maps else None  # type: ignore[operator]
            for block, stride in zip(self.blocks, reversed(self.strides), strict=True)
        ]

    def forward(
        self, x_in: Tensor, t: Tensor, features: Any, r: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        cached, description = features
        return self.decode(x_in, t, cached, description, r, noise)

    def decode(
        self, x_in: Tensor, t: Tensor, cached: Cached, description: Tensor, r: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        """`forward`, given the result of `skips` and the description (B, embedding) of the degradation."""
        states = [self.stem[0](x_in)]
        time = self.time(t) + description
        embeddings = [F.silu(time)] * len(self.blocks)
        if r is not None:
            # The casts keep an autocast network's types, so that r = t changes no bit.
            length = (r - t)[:, None]
            entered = length[:, :, None, None] * self.noise_stem(noise)
            states[0] = states[0] + entered.to(states[0].dtype)
            if self.length is None:
                shallow = len(self.blocks) // 2
                embeddings[-shallow:] = [F.silu(self.time(r) + description)] * shallow
            else:
                embeddings = [F.silu(time + (length * self.length(r - t)).to(time.dtype))] * len(self.blocks)

        for stem in self.stem[1:]:
            states.append(stem(F.silu(states[-1])))

        hidden: Tensor | None = None
        for block, deeper, skip, current, embedding in zip(
            self.blocks, self.deeper, cached, reversed(states), embeddings, strict=True
        ):
            if hidden is not None:
                hidden = F.interpolate(hidden, size=current.shape[-2:], mode="nearest")
                current = torch.cat([hidden, current], dim=1)
            hidden = block(current, embedding, skip)
            assert isinstance(deeper, nn.ModuleList)
            for further in deeper:
                hidden = further(hidden, embedding)
        assert hidden is not None

        out = self.head(F.silu(self.norm(hidden))) + self.linear(F.pixel_unshuffle(x_in, 2))
        return F.pixel_shuffle(out, 2).float()

    def pretrained(self) -> dict[str, list[nn.Parameter]]:
        return self.encoder.pretrained_groups()


def group_norm(width: int) -> nn.GroupNorm:
    """Sixteen channels per group, if they divide the width. Eight take five times as long on a CPU in 16 bits and
    channels last."""
    return nn.GroupNorm(math.gcd(width, max(1, width // 16)), width)
