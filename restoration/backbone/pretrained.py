"""Image classifiers of timm and their files: stem, normalisation, weights."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor, nn

from restoration.errors import UserError
from restoration.trust import load_tensors

Stem = Literal["imagenet", "no_pool"]


def change_stem(model: nn.Module, stem: Stem, key: str, name: str) -> None:
    """Removes the max-pool of a model for stem="no_pool".

    Args:
        model: of timm.
        stem: as the config has it.
        key, name: of the model in the config, for messages.

    Raises:
        UserError: there is no max-pool, or no such stem.
    """
    if stem == "no_pool":
        if not isinstance(getattr(model, "maxpool", None), nn.Module):
            raise UserError(f"{key}.stem=no_pool: {name} has no max-pool; use stem=imagenet")
        model.maxpool = nn.Identity()
    elif stem != "imagenet":
        raise UserError(f"{key}.stem={stem!r}: choose imagenet or no_pool")


def normalisation(name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1, 3, 1, 1) of images in [0, 1] that a model's default tag was trained with.

    By name, not from the weights, which a checkpoint is rebuilt without.
    """
    trained = timm.get_pretrained_cfg(name)
    assert trained is not None
    return torch.tensor(trained.mean).view(1, 3, 1, 1), torch.tensor(trained.std).view(1, 3, 1, 1)


def create(name: str, weights: str, setting: str, options: dict[str, Any]) -> nn.Module:
    """A model of timm with its weights.

    Args:
        name: of the model, without tag.
        weights: "random", "checkpoint", a timm tag, or a .safetensors or .pth file. A last layer that the file lacks,
            or that does not fit, stays as it is.
        setting: what sets the name in the config, for messages.
        options: of timm's `create_model`.

    Raises:
        UserError: the model or the weights are not available, or do not fit.
    """
    path, key = Path(weights), setting.rpartition(".")[0]
    what = key.rpartition(".")[2]
    # timm would fetch "hf-hub:…" and read "local-dir:…" whatever the weights.
    if not re.fullmatch(r"[\w.]+", name):
        raise UserError(f"{setting}={name!r}: give a name of timm, such as resnet50")
    try:
        if weights in ("random", "checkpoint"):
            return timm.create_model(name, **options)
        if path.suffix in (".safetensors", ".pth", ".pt", ".bin"):
            if not path.is_file():
                raise UserError(
                    f"{what} weights not found: {weights}; give a .safetensors or .pth file of {name} by "
                    f"{key}.weights=FILE, or train without weights: {key}.weights=random"
                )
            created = timm.create_model(name, **options)
            _fill(created, path, name)
            return created
        return timm.create_model(f"{name}.{weights}", pretrained=True, **options)
    except UserError:
        raise
    except Exception as error:  # timm and the hub raise a dozen types, several with an empty message
        raise UserError(
            f"{what} {name!r} with weights {weights!r} is not available ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); check {setting}, or use "
            f"{key}.weights=FILE, or none with {key}.weights=random"
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors or .pth file, by timm's names.

    Raises:
        UserError: it cannot be read, or holds more than tensors.
    """
    try:
        # Training checkpoints of timm hold the weights under one of these names, beside their arguments.
        with torch.serialization.safe_globals([Namespace]):
            state: Any = load_file(path) if path.suffix == ".safetensors" else load_tensors(path)
        held = [
            key for key in ("state_dict_ema", "model_ema", "state_dict", "model") if isinstance(state.get(key), dict)
        ]
        return dict(clean_state_dict(state[held[0]] if held else state))
    except Exception as error:
        raise UserError(
            f"encoder weights {path} cannot be read ({type(error).__name__}); is it complete, and tensors only?"
        ) from error


def _fill(model: nn.Module, path: Path, name: str) -> None:
    """Loads the weights of a file, which may be a classifier's with its last layer."""
    # timm's feature wrappers rename: the classifier's `stages.0` is `stages_0`, its `blocks` are `model.blocks`.
    state = {key.replace(".", "_"): value for key, value in _read_state(path).items()}
    # Batch normalisation's step counters are often left out of weight files, and frozen statistics do not use them.
    wanted = {key: own for key, own in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    theirs = {key: key.removeprefix("model.").replace(".", "_") for key in wanted}
    unfit = {key for key, own in wanted.items() if theirs[key] not in state or state[theirs[key]].shape != own.shape}
    head = getattr(model, "get_classifier", nn.Identity)()
    last = {id(parameter) for parameter in head.parameters()} if isinstance(head, nn.Module) else set()
    left = [key for key, own in model.state_dict(keep_vars=True).items() if key in unfit and id(own) not in last]
    if left:
        raise UserError(
            f"encoder weights {path} do not fit {name}: {len(left)} tensors are missing or of another shape, "
            f"the first {left[0]!r}"
        )
    model.load_state_dict({key: state[other] for key, other in theirs.items() if key not in unfit}, strict=False)


def facts_of(path: Path) -> dict[str, str]:
    """What a file of `Classifier.write` says of itself: model, stem, normalisation and run; nothing of other files."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except Exception:  # `_read_state` says that it is damaged
        return {}


def check_facts(path: Path, model: str, stem: str) -> None:
    """Refuses a file that says it was trained with another stem or normalisation than it would be used with.

    Files of `Classifier.write` say it in their metadata; others say nothing.

    Raises:
        UserError: what differs.
    """
    if not (facts := facts_of(path)):
        return
    if facts.get("stem", stem) != stem:
        raise UserError(
            f"encoder weights {path} were trained with stem={facts['stem']}; give backbone.encoder.stem={facts['stem']}"
        )
    if facts.get("normalisation", own := written(model)) != own:
        raise UserError(
            f"encoder weights {path} were trained on images normalised otherwise than {model}'s; give "
            f"backbone.encoder.model={facts.get('model')}"
        )


def written(model: str) -> str:
    """The normalisation of a model as the metadata of a file has it."""
    mean, std = (part.flatten().tolist() for part in normalisation(model))
    return " ".join(f"{value:.6g}" for value in (*mean, *std))
