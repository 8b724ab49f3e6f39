"""Who takes part: our backbones, and networks of other packages as those packages build them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.benchmark.ours import build, work
from restoration.benchmark.timing import autocast, operations
from restoration.run.hardware import autocast_dtype

BASELINE = "resnet34_unet"
OURS = (BASELINE, "resnet34_unet_state", "unet")
INSTALL = "pip install 'restoration[benchmark]'"

Call = Callable[[], object]


@dataclass
class Contender:
    """A network beside others. One without a network is not installed.

    Attributes:
        name: in the tables.
        network: on the device; its parameters count.
        step: makes a training step, forward and backward without an optimiser, from the side and number of the images.
        restoring: makes the restoration of so many images of a side with so many evaluations.
        repeats: every evaluation costs the same, so that one is timed and multiplied.
    """

    name: str
    network: nn.Module | None = None
    step: Callable[[int, int], Call] = field(default=lambda size, batch: lambda: None)
    restoring: Callable[[int, int, int], Call] = field(default=lambda size, batch, nfe: lambda: None)
    repeats: bool = False

    def facts(self, size: int = 64) -> dict[str, Any]:
        """Millions of parameters, and GMAC per image of what runs once and of each evaluation."""
        assert self.network is not None
        one, two = (operations(self.restoring(size, 1, nfe)) / 2e9 for nfe in (1, 2))
        parameters = sum(parameter.numel() for parameter in self.network.parameters()) / 1e6
        return {"parameters, M": parameters, "GMAC once": 2 * one - two, "GMAC per evaluation": two - one}


def ours(variant: str, device: str, precision: str, overrides: Sequence[str], task: str = "stage 2") -> Contender:
    """A backbone of the configs with its estimator; `task` is the stage of its training step."""
    restorer, objective = build(variant, overrides)
    restorer.to(device)

    def step(size: int, batch: int) -> Call:
        return work(restorer, objective, task, size, batch, device, precision)

    def restoring(size: int, batch: int, nfe: int) -> Call:
        return work(restorer, objective, nfe, size, batch, device, precision)

    return Contender(variant, restorer, step, restoring)


def _torchcfm() -> nn.Module:
    """Its CIFAR-10 example's."""
    from torchcfm.models.unet import UNetModel

    size, heads = (6, 64, 64), {"num_heads": 4, "num_head_channels": 64, "attention_resolutions": "16"}
    return UNetModel(size, num_channels=128, num_res_blocks=2, channel_mult=[1, 2, 2, 2], dropout=0.1, **heads)


def _diffusers() -> nn.Module:
    """Of about our parameters, with attention at 16 x 16 as in the one above."""
    from diffusers import UNet2DModel

    down = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    up = ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D")
    widths = (64, 128, 256, 256)
    network = UNet2DModel(64, 6, 3, down_block_types=down, up_block_types=up, block_out_channels=widths)
    return cast(nn.Module, network)


def _smp() -> nn.Module:
    from segmentation_models_pytorch import Unet

    network: nn.Module = Unet("resnet34", encoder_weights=None, in_channels=3, classes=3)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


# How each is built, and how it is called with the images (B, 6, H, W) and the time (B,).
PEERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    "torchcfm UNetModel": (_torchcfm, lambda network, images, t: network(t, images)[:, :3]),
    "diffusers UNet2DModel": (_diffusers, lambda network, images, t: network(images, t).sample),
    "smp Unet(resnet34), no time": (_smp, lambda network, images, t: network(images[:, :3])),
}


def peer(name: str, device: str, precision: str) -> Contender:
    """A network of another package: of x_t beside the degraded image, or of that alone if it takes no time."""
    make, call = PEERS[name]
    try:
        network = make().to(device)
    except ImportError:
        return Contender(name)
    dtype = autocast_dtype(precision)

    def predict(images: Tensor) -> Tensor:
        t = torch.rand(len(images), device=device)
        with autocast(device, dtype):
            return call(network, torch.cat([torch.randn_like(images), images], dim=1), t)

    def step(size: int, batch: int) -> Call:
        images = torch.rand(batch, 3, size, size, device=device)

        def train() -> None:
            network.train()
            F.mse_loss(predict(images).float(), images).backward()
            network.zero_grad(set_to_none=True)

        return train

    def restoring(size: int, batch: int, nfe: int) -> Call:
        images = torch.rand(batch, 3, size, size, device=device)

        @torch.no_grad()
        def restore() -> None:
            network.eval()
            for _ in range(nfe):
                predict(images)

        return restore

    return Contender(name, network, step, restoring, repeats=True)


def contenders(device: str, precision: str, overrides: Sequence[str]) -> list[Contender]:
    """All of them, the baseline first, and again at the end: what its two rows differ by is noise."""
    own = [ours(name, device, precision, overrides) for name in OURS]
    again = replace(own[0], name=f"{BASELINE}, again")
    return [*own, *(peer(name, device, precision) for name in PEERS), again]
