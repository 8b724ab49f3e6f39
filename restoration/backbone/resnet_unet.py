"""A U-Net on a pretrained encoder that sees each degraded image once."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone.base import Backbone, Context, DamageEstimate
from restoration.backbone.damage import ErrorHead, HoleHead, fill
from restoration.backbone.embedding import FourierEmbedding
from restoration.backbone.encoder import Encoder, WidenedConv

__all__ = ["ResNetUNet"]

# Expected errors are taken so much larger: an underestimate would bind the network.
_MARGIN = 2.0
# The typical error of a filled hole, in [−1, 1] units.
_HOLE_ERROR = 0.25


class Block(nn.Module):
    """A residual block on a state that changes with x_t, and on a skip that does not.

    Its first convolution and its shortcut are linear in their concatenated input, so each is split in two and the
    half that sees the skip is computed once per image. What can be is done in place: half of sampling's time on a CPU
    goes to memory.
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
    """Encode once: the encoder sees the degraded image, the decoder the flow's state at every scale.

    The last block runs at half resolution and ends in pixel-shuffle. With the identity path, the network changes the
    degraded image after its hole has been filled smoothly, and the change is scaled by the expected error: that of a
    filled hole there, the estimated one of the degraded image elsewhere, so that what is intact stays so, also while
    sampling. The encoder sees the filled image, too: no black rectangle among its features. The estimates have
    targets of their own (`objective.DamageSupervision`); no gradient of the restoration reaches them, since it would
    sooner close the gate than learn to deblur.

    Args:
        encoder: of the degraded image.
        widths: channels of the decoder from the finest level (half resolution) down, one for each halving. A level at
            whose stride the encoder has no map goes without: the finest beside an encoder that begins at a quarter,
            and those below the encoder's last, which see further.
        depth: residual blocks at each level.
        embedding: width of the time and damage embedding.
        identity_path: False lets every pixel change alike, from the degraded image as it is.

    Raises:
        ValueError: fewer widths than lead down to the encoder's last map.
    """

    def __init__(
        self,
        encoder: Encoder,
        widths: tuple[int, ...] = (64, 128, 256, 384),
        depth: int = 2,
        embedding: int = 256,
        identity_path: bool = True,
    ) -> None:
        super().__init__()
        strides = [2 ** (level + 1) for level in range(len(widths))]
        if encoder.strides[-1] not in strides:
            raise ValueError(
                f"backbone.widths={list(widths)}: the encoder's maps have strides {encoder.strides}, so at least "
                f"{encoder.strides[-1].bit_length() - 1} widths are needed, one for each halving"
            )
        self.encoder = encoder
        self.strides = strides
        self.stride = strides[-1]
        local = max(16, widths[0] // 2)
        self.hole = HoleHead(local)
        # What the frozen encoder cannot give: fine detail, and where the hole is.
        self.detail = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(28, local, 3, padding=1), nn.SiLU(), nn.Conv2d(local, local, 3, padding=1)
        )
        self.error = ErrorHead(local)
        self.identity_path = identity_path
        self.time = FourierEmbedding(embedding)
        self.describe = nn.Linear(2 * local + 1, embedding)
        # The evidence at every scale, each level from the one above it.
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
        # Straight from the evidence to the output, past every nonlinearity.
        self.linear = nn.Conv2d(12, 12, 1, bias=False)
        for layer in (self.head, self.linear):
            nn.init.zeros_(layer.weight)

    def encode(self, degraded: Tensor) -> Context:
        context = self.glance(degraded)
        local, description = context.cache
        return replace(context, cache=(self.skips(self.encoder(context.base), local), description))

    def glance(self, degraded: Tensor) -> Context:
        """What is seen without the encoder; the cache holds local features and a description of the damage."""
        hole_logit = self.hole(degraded)
        hole = torch.sigmoid(hole_logit.detach())
        base = degraded
        if self.identity_path:
            # Only pixels that are surely known may spread: a trace of black in a pyramid's weights becomes all of it.
            smooth = fill(degraded, (1 - 4 * hole).clamp(min=0))
            base = degraded + hole * (smooth - degraded)
        local = self.detail(torch.cat([degraded, base, 2 * hole - 1], dim=1))
        log_error, statistics = self.error(local, hole)
        damage = DamageEstimate(hole_logit, log_error)
        description = self.describe(torch.cat([statistics, log_error.detach()[:, None]], dim=1))
        scale = damage_scale(damage) if self.identity_path else torch.ones_like(hole)
        return Context(degraded, base, scale, (local, description), damage)

    def skips(self, features: list[Tensor], local: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        """Each block's half of its linear maps that sees the encoder's features, deepest first; None without any.

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

    def forward(self, evidence: Tensor, t: Tensor, context: Context) -> Tensor:
        cached, description = context.cache
        return self.decode(evidence, t, cached, description)

    def decode(
        self, evidence: Tensor, t: Tensor, cached: list[tuple[Tensor, Tensor] | None], description: Tensor
    ) -> Tensor:
        """`forward`, given what `skips` made of the features and the description (B, embedding) of the damage."""
        embedding = F.silu(self.time(t) + description)

        states = [self.stem[0](evidence)]
        for stem in self.stem[1:]:
            states.append(stem(F.silu(states[-1])))

        hidden: Tensor | None = None
        for block, deeper, skip, current in zip(self.blocks, self.deeper, cached, reversed(states), strict=True):
            if hidden is not None:
                hidden = F.interpolate(hidden, size=current.shape[-2:], mode="nearest")
                current = torch.cat([hidden, current], dim=1)
            hidden = block(current, embedding, skip)
            assert isinstance(deeper, nn.ModuleList)
            for further in deeper:
                hidden = further(hidden, embedding)
        assert hidden is not None

        out = self.head(F.silu(self.norm(hidden))) + self.linear(F.pixel_unshuffle(evidence, 2))
        return F.pixel_shuffle(out, 2).float()

    def stages(self) -> dict[str, list[nn.Parameter]]:
        """Decoder, upper encoder (the deepest half of its modules) and lower encoder.

        What widens the encoder's first convolution was never pretrained, and goes with the decoder.
        """
        new = {id(p) for part in self.modules() if isinstance(part, WidenedConv) for p in part.extra.parameters()}
        children = [[p for p in child.parameters() if id(p) not in new] for child in self.encoder.model.children()]
        children = [parameters for parameters in children if parameters]
        cut = (len(children) + 1) // 2
        lower = [parameter for parameters in children[:cut] for parameter in parameters]
        upper = [parameter for parameters in children[cut:] for parameter in parameters]
        encoder = {id(parameter) for parameter in lower + upper}
        decoder = [parameter for parameter in self.parameters() if id(parameter) not in encoder]
        return {"decoder": decoder, "encoder_upper": upper, "encoder_lower": lower}


def group_norm(width: int) -> nn.GroupNorm:
    """Sixteen channels a group, where they divide the width: with eight it takes five times as long on a CPU, in
    16 bits and channels last."""
    return nn.GroupNorm(math.gcd(width, max(1, width // 16)), width)


def damage_scale(damage: DamageEstimate) -> Tensor:
    """`Context.scale`, (B, 1, H, W)."""
    hole = torch.sigmoid(damage.hole_logit.detach())
    known = (_MARGIN * damage.log_error.detach().exp()).clamp(max=1.0)
    return hole * _MARGIN * _HOLE_ERROR + (1 - hole) * known[:, None, None, None]
