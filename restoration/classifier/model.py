"""An image classifier: what `pretrain` trains, and what `evaluate` asks what it sees."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from safetensors.torch import save_file
from torch import Tensor, device, nn

from restoration.arguments import check_arguments
from restoration.backbone.pretrained import Stem, change_stem, create, normalisation, written
from restoration.checkpoint_file import broken, read_checkpoint
from restoration.classifier.transfer import Full, rest
from restoration.errors import UserError

ENCODER = "encoder.safetensors"
"""Its weights in the run folder, for restorers."""

PREFIX = "classifier."
"""Of its weights in a checkpoint."""


class Classifier(nn.Module):
    """Any classifier of timm, by name. Images are normalised as for the model's default tag.

    Args:
        name: timm's, without tag.
        classes: names of the classes, in the order of the labels.
        weights: "random"; a timm tag such as "a1_in1k" (fetched from the hub); a local .safetensors or .pth file, of
            which the last layer is taken only if it fits; or "checkpoint" if a state dict will follow.
        stem: "imagenet" as timm builds it, or "no_pool" without the max-pool, as the encoder of a backbone has it.
        options: further arguments of the model, such as drop_path_rate or a ViT's img_size.

    Attributes:
        classes: as the argument.
        config: the training config, if it was loaded from a checkpoint.

    Raises:
        UserError: weights that are not available or do not fit, an option that the model does not take, or no max-pool
            for stem=no_pool.
    """

    mean: Tensor
    std: Tensor
    config: dict[str, Any]

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        weights: str = "random",
        stem: Stem = "imagenet",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.stem, self.classes = name, stem, list(classes)
        if "num_classes" in (options := dict(options or {})):
            raise UserError("model.options.num_classes: the number of classes is that of the data; leave it out")
        self.model = create(name, weights, "model.name", {**options, "num_classes": len(classes)})
        change_stem(self.model, stem, "model", name)
        mean, std = normalisation(name)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def label(self) -> str:
        """Experiment and name of the run that it comes from, else timm's name; letters, digits and underscores."""
        run = getattr(self, "config", {}).get("run", {})
        names = [str(run[key]) for key in ("experiment", "label") if run.get(key)]
        return re.sub(r"\W+", "_", "_".join(names) or self.name)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 (B, C) from images (B, 3, H, W) in [0, 1]."""
        return self.model((images - self.mean) / self.std).float()

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, float32 (B, D), of images (B, 3, H, W) in [0, 1]."""
        model: Any = self.model
        return model.forward_head(model.forward_features((images - self.mean) / self.std), pre_logits=True).float()

    def train(self, mode: bool = True) -> "Classifier":
        """As for any module; parts that are frozen throughout stay in eval mode, with their statistics."""
        super().train(mode)
        if mode:
            rest(self)
        return self

    def write(self, path: Path) -> None:
        """Writes the weights as a file that `backbone.encoder.weights` and `model.weights` take.

        Its metadata say with which stem and normalisation they were trained, and in which run. The file appears
        complete or not at all.
        """
        part = path.with_name(path.name + ".part")
        facts = {"model": self.name, "stem": self.stem, "normalisation": written(self.name), "run": self.label}
        save_file({name: value.contiguous().cpu() for name, value in self.model.state_dict().items()}, part, facts)
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | Path, where: str | device = "cpu", trust: Any = None) -> "Classifier":
        """The classifier of a checkpoint, in eval mode.

        Args:
            path: a checkpoint that `pretrain` wrote.
            where: the device.
            trust: names of other packages whose code the checkpoint may use.

        Raises:
            UserError: as `read_checkpoint`; its weights do not fit its network, or are not finite.
        """
        checkpoint = read_checkpoint(path, trust, "model")
        if (name := broken(checkpoint)) is not None:
            raise UserError(f"{path}: its weight {name} is not finite; give another checkpoint")
        weights = checkpoint["state_dict"].items()
        try:
            node = {**checkpoint["config"]["model"], "weights": "checkpoint"}
            check_arguments({"model": node})
            classifier: Classifier = instantiate(node)
            transfer = instantiate(checkpoint["config"].get("transfer")) or Full()
            transfer.prepare(classifier.model)
            classifier.load_state_dict({k.removeprefix(PREFIX): v for k, v in weights if k.startswith(PREFIX)})
            transfer.finish(classifier.model)
        except UserError:
            raise
        except Exception as error:  # missing keys, wrong arguments, other shapes
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{path}: this version cannot build its classifier ({reason}); give another") from error
        classifier.config = checkpoint["config"]
        return classifier.to(where).eval()
