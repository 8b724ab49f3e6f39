"""A pretrained image classifier as feature extractor."""

from pathlib import Path

import torch
from torch import Tensor, nn

from restoration.backbone.pretrained import Stem, change_stem, check_facts, create, normalisation
from restoration.errors import UserError

# The strides are measured with an image of this height and width, up to the largest that divides both: 32.
_MEASURED = (96, 128)


class Encoder(nn.Module):
    """Any timm `features_only` model that accepts every size its strides divide; by default a ResNet-34.

    Images are normalised as for the model's default tag.

    Args:
        model: timm's name, without tag.
        weights: a timm tag such as "a1_in1k" (fetched from the hub), a local .safetensors or .pth file, "random",
            or "checkpoint" if a state dict will follow.
        stem: "imagenet" as timm builds it, or "no_pool" without the max-pool: twice the resolution at every level,
            for images much smaller than ImageNet's.

    Attributes:
        strides, channels: of the feature maps, finest first, one map (the deepest) for each stride.

    Raises:
        UserError: weights that are not available or do not fit, a model without max-pool for stem=no_pool, or one
            that takes images of one size only or has maps that are not (C, H / stride, W / stride).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: str = "resnet34", weights: str = "a1_in1k", stem: Stem = "no_pool") -> None:
        super().__init__()
        self.pretrained = weights != "random"
        self.model = create(model, weights, "backbone.encoder.model", {"features_only": True})
        change_stem(self.model, stem, "backbone.encoder", model)
        check_facts(Path(weights), model, stem)
        # For images in [−1, 1] the statistics of [0, 1] are 2·mean − 1 and 2·std.
        mean, std = normalisation(model)
        self.register_buffer("mean", 2 * mean - 1, persistent=False)
        self.register_buffer("std", 2 * std, persistent=False)
        self._levels: list[int] = []
        self.strides: list[int] = []
        self.channels: list[int] = []
        self._measure(model)

    def _measure(self, name: str) -> None:
        # timm's feature_info is wrong once the stem has changed, so the strides are measured.
        self.eval()
        height, width = _MEASURED
        works = "choose one such as resnet50, convnext_tiny, efficientnet_b0, regnety_032 or vgg16_bn"
        try:
            with torch.no_grad():
                maps = self.model(torch.zeros(1, 3, height, width))
        except Exception as error:  # attention and position codes of one size; a dozen types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"backbone.encoder.model={name} does not take images of any size ({reason}); {works}"
            ) from error
        for level, features in enumerate(maps):
            stride = width // features.shape[-1]
            if tuple(features.shape[-2:]) != (height / stride, width / stride):
                raise UserError(
                    f"backbone.encoder.model={name}: for a {height} x {width} image its map is "
                    f"{tuple(features.shape[1:])}, not (channels, height / stride, width / stride); {works}"
                )
            if self.strides and self.strides[-1] == stride:
                self._levels[-1], self.channels[-1] = level, features.shape[1]
            else:
                self._levels.append(level)
                self.strides.append(stride)
                self.channels.append(features.shape[1])
        self.train()

    def train(self, mode: bool = True) -> "Encoder":
        """Pretrained batch statistics never change, frozen or not; only random weights update theirs."""
        super().train(mode)
        if self.pretrained:
            self.model.eval()
        return self

    def widen(self, channels: int) -> None:
        """Gives the first convolution further, zero-initialised input channels beside the image."""
        # Not by timm's `first_conv`: its wrappers rename modules.
        name, first = next(
            (name, part)
            for name, part in self.model.named_modules()
            if isinstance(part, nn.Conv2d) and part.in_channels == 3
        )
        self.model.set_submodule(name, WidenedConv(first, channels))

    def pretrained_groups(self) -> dict[str, list[nn.Parameter]]:
        """The upper half (the deepest modules) and the lower half, for an optimiser; nothing with random weights.

        The extra channels of a widened first convolution were never pretrained and are left out.
        """
        if not self.pretrained:
            return {}
        new = {id(p) for part in self.modules() if isinstance(part, WidenedConv) for p in part.extra.parameters()}
        children = [[p for p in child.parameters() if id(p) not in new] for child in self.model.children()]
        children = [parameters for parameters in children if parameters]
        cut = (len(children) + 1) // 2
        return {"encoder_upper": sum(children[cut:], []), "encoder_lower": sum(children[:cut], [])}

    def forward(self, images: Tensor, extra: Tensor | None = None) -> list[Tensor]:
        """Feature maps (B, channels[i], H / strides[i], W / strides[i]).

        Args:
            images: (B, 3, H, W) in [−1, 1].
            extra: (B, C, H, W) for an encoder widened by C channels.
        """
        seen = (images - self.mean) / self.std
        maps = self.model(seen if extra is None else torch.cat([seen, extra], dim=1))
        return [maps[level] for level in self._levels]


class WidenedConv(nn.Module):
    """The sum of a convolution and another on further channels: one convolution on all channels, in two parameters.

    Args:
        first: the pretrained one.
        channels: further input channels; their weights are zero-initialised.
    """

    def __init__(self, first: nn.Conv2d, channels: int) -> None:
        super().__init__()
        self.pretrained = first
        kernel, stride, padding = first.kernel_size, first.stride, first.padding
        self.extra = nn.Conv2d(channels, first.out_channels, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
        nn.init.zeros_(self.extra.weight)

    def forward(self, images: Tensor) -> Tensor:
        seen, extra = images.split([self.pretrained.in_channels, self.extra.in_channels], dim=1)
        return self.pretrained(seen) + self.extra(extra)
