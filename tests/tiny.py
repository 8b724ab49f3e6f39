"""Tiny networks and data, built without a config."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from restoration.backbone import Backbone
from restoration.corruption import Corruption, Erase, GaussianBlur, MotionBlur, OneOf, Sequence
from restoration.data.dead_leaves import DeadLeaves
from restoration.estimator import Estimate
from restoration.flow import Field, Uniform
from restoration.objective import FlowMatching, Objective, SquaredError
from restoration.restorer import Restorer
from restoration.training.module import RestorationModule
from restoration.training.schedule import Cosine


class Plain(Backbone):
    """The smallest backbone: no encoder, one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(7, 3, 3, padding=1)

    def encode(self, degraded: Tensor, estimate: Estimate) -> Tensor:
        return degraded

    def forward(self, x_in: Tensor, t: Tensor, features: Tensor, r: Tensor | None = None) -> Tensor:
        time = t[:, None, None, None].expand_as(features[:, :1])
        return self.convolution(torch.cat([x_in, features, time], dim=1)).float()


class Velocity(Field):
    """A field given by a function of x_t and t."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function = function

    def velocity(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        assert r is None
        return self.function(x_t, t)


def encoder_file(folder: Path) -> Path:
    """ "Pretrained" weights of timm's test_resnet: random ones, with batch statistics that are not the initial ones."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = timm.create_model("test_resnet").state_dict()
        for name, value in state.items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    path = folder / "test_resnet.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def tiny_data(train_images: int = 24, batch_size: int = 4) -> DeadLeaves:
    sequence = Sequence({"blur": OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()}), "erase": Erase()})
    counts = {"train_images": train_images, "selection_images": 8, "test_images": 4}
    return DeadLeaves(Corruption(sequence), image_size=16, batch_size=batch_size, eval_batch_size=4, **counts)


def tiny_module(weights: str | Path = "random", schedule: Cosine | None = None, **optimizer: Any) -> RestorationModule:
    """A flow on test_resnet, with its config, so that its checkpoints rebuild themselves."""
    encoder = {"_target_": "restoration.backbone.Encoder", "model": "test_resnet", "weights": str(weights)}
    config = {
        "backbone": {"_target_": "restoration.backbone.ResNetUNet", "encoder": encoder, "widths": [16] * 4, "depth": 1},
        "source": {"_target_": "restoration.flow.Degraded", "sigma": 0.5},
        "sampler": {"_target_": "restoration.sampler.Midpoint", "nfe": 2},
        "prediction": {"_target_": "restoration.flow.CleanPrediction", "_partial_": True},
        "estimator": {"_target_": "restoration.estimator.Blind", "width": 16},
    }
    return RestorationModule(
        Restorer.build(config),
        Objective({"flow": FlowMatching(Uniform(), SquaredError())}),
        functools.partial(torch.optim.AdamW, **{"lr": 1e-2, **optimizer}),
        schedule or Cosine(warmup=0.0, final=1.0),
        config,
    )
