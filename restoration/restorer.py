"""The thing people keep, load, share and export."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from restoration.backbone import Backbone, Context
from restoration.errors import UserError
from restoration.flow import Clean, Prediction, Source, clean_to_velocity, to_image, to_model
from restoration.keyed import normal
from restoration.sampler import Sampler, Velocity

__all__ = ["Restorer", "self_contained"]


class Restorer(nn.Module):
    """A backbone, where its flow starts, and how it is followed.

    Args:
        backbone: the network.
        source: gives x_0.
        sampler: goes from x_0 to x_1.
        prediction: what the backbone's answer stands for; None is the clean image.
    """

    to_model = staticmethod(to_model)
    to_image = staticmethod(to_image)

    def __init__(
        self, backbone: Backbone, source: Source, sampler: Sampler, prediction: Prediction | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.source = source
        self.sampler = sampler
        self.prediction = prediction or Clean()

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of it (`restore` pads)."""
        return self.backbone.stride

    def check_size(self, size: int) -> None:
        """UserError where images of that side would have to be padded: training does not."""
        if size % self.stride:
            near = " or ".join(str(side) for side in (size - size % self.stride, size + -size % self.stride) if side)
            raise UserError(
                f"data.image_size={size} is no multiple of the backbone's stride {self.stride}; take {near}"
            )

    def encode(self, degraded: Tensor, start: tuple[Tensor, Tensor] | None = None) -> Context:
        """What has to be known of degraded images (B, 3, H, W) in [0, 1]; once per image.

        Args:
            degraded: float32, H and W multiples of the stride.
            start: mean and deviation of x_0, where they are known already; None asks the source.
        """
        context = self.backbone.encode(to_model(degraded))
        mean, deviation = start or (self.source.mean(context), self.source.deviation(context))
        return replace(context, mean=mean, deviation=deviation)

    @staticmethod
    def start(mean: Tensor, deviation: Tensor, keys: Tensor) -> Tensor:
        """x_0 from its mean (B, 3, H, W) and deviation (B, 1, H, W); int64 keys (B,) give the noise."""
        return mean + deviation * normal(keys.to(mean.device), tuple(mean.shape[1:]))

    def predict(self, x_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """The clean images, in [−1, 1], as predicted from x_t (B, 3, H, W) at t (B,)."""
        return self.prediction(self.backbone, x_t, t, context)

    def field(self, context: Context) -> Velocity:
        """The velocity field that leads from the source to the clean images."""

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            return clean_to_velocity(self.predict(x_t, t, context), x_t, t)

        return velocity

    @torch.no_grad()
    def restore(self, degraded: Tensor, keys: Tensor, nfe: int | None = None, sampler: Sampler | None = None) -> Tensor:
        """Restored images.

        Args:
            degraded: (B, 3, H, W) in [0, 1], any height and width.
            keys: int64 (B,); equal keys give equal noise.
            nfe: evaluations of the network per image; None is the sampler's own.
            sampler: in place of the restorer's own.

        Returns:
            float32 (B, 3, H, W) in [0, 1].
        """
        height, width = degraded.shape[-2:]
        bottom, right = -height % self.stride, -width % self.stride
        padded = F.pad(degraded, (0, right, 0, bottom), mode="replicate")
        context = self.encode(padded)
        sampler = sampler or self.sampler
        start = self.start(context.mean, context.deviation, keys)
        restored = sampler(self.field(context), start, nfe, context.scale)
        return to_image(restored.float())[..., :height, :width]

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "Restorer":
        """The restorer of a checkpoint, in eval mode (see `load_with_config`)."""
        return cls.load_with_config(path, device)[0]

    @classmethod
    def load_with_config(
        cls, path: str | Path, device: str | torch.device = "cpu"
    ) -> tuple["Restorer", dict[str, Any]]:
        """The restorer of a checkpoint, rebuilt from the training config that the checkpoint carries, and that config.

        Raises:
            UserError: no such file, or not a checkpoint of this project.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"no checkpoint at {path}; a run leaves checkpoints/best.ckpt in its folder")
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            config = checkpoint["config"]
            state = {
                name.removeprefix("restorer."): value
                for name, value in checkpoint["state_dict"].items()
                if name.startswith("restorer.")
            }
        except Exception as error:
            raise UserError(
                f"{path} is not a checkpoint of this project, or is damaged ({type(error).__name__}); "
                "copy it again or give another"
            ) from error
        try:
            restorer = cls.build(config, weights="checkpoint")
        except Exception as error:  # keys that are not there, classes that are not, arguments they do not take
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"{path}: its config describes no network that this version can build ({reason}); "
                "give a checkpoint of this project"
            ) from error
        try:
            restorer.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{path}: its weights do not fit the network its config describes") from error
        return restorer.to(device).eval(), config

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None = None) -> "Restorer":
        """A restorer from the config groups backbone, source, sampler and prediction.

        Args:
            config: plain containers with `_target_`s.
            weights: replaces `backbone.encoder.weights`; "checkpoint" where a state dict will follow.
        """
        backbone = dict(config["backbone"])
        if weights is not None and "encoder" in backbone:
            backbone["encoder"] = {**backbone["encoder"], "weights": weights}
        others = (instantiate(config[name]) for name in ("source", "sampler", "prediction"))
        return cls(instantiate(backbone), *others)


def self_contained(config: dict[str, Any]) -> dict[str, Any]:
    """The training config as a checkpoint carries it: a source's restorer by its own config, no longer by its file.

    Its weights are part of the state dict, so the file need not be there when the checkpoint is loaded.
    """
    source = config["source"]
    if "path" not in source.get("restorer", {}):
        return config
    path, device = source["restorer"]["path"], "cpu"
    _, inner = Restorer.load_with_config(path, device)
    groups = {name: inner[name] for name in ("backbone", "source", "sampler", "prediction")}
    # Not recursive: `build` instantiates the groups itself.
    target = f"{Restorer.__module__}.{Restorer.__qualname__}.build"
    rebuilt = {"_target_": target, "_recursive_": False, "config": groups, "weights": "checkpoint"}
    return {**config, "source": {**source, "restorer": rebuilt}}
