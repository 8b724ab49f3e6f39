"""Weights to share: one safetensors file that holds a restorer and its config, half the size of a checkpoint.

Kernels and matrices are rounded to bfloat16; vectors (biases, statistics of normalisation) stay float32. The config is
JSON in the file's metadata, without folders, loggers and callbacks of the training.
"""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PREFIX = "restorer."
"""Of the restorer's weights in a checkpoint."""

CONFIG = "config"
"""Of the config in the metadata, and of the same as a tensor of bytes, for programs that see tensors only."""

# The parts of a training config that describe the restorer and what it was trained on.
_KEPT = (
    *("backbone", "estimator", "source", "prediction", "sampler"),
    *("data", "corruption", "evaluation", "objective", "seed"),
)


def shipped() -> Path | None:
    """The weights that come with the package; None if it was built without."""
    found = sorted(Path(str(files("restoration"))).glob("weights/*.safetensors"))
    return found[0] if found else None


def write_weights(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes the restorer of a checkpoint; the file appears complete or not at all.

    Args:
        checkpoint: `state_dict` and `config`, as `read_checkpoint` gives them.
        path: ends in .safetensors.
    """
    own = {key.removeprefix(PREFIX): value for key, value in checkpoint["state_dict"].items() if key.startswith(PREFIX)}
    trained = checkpoint["config"]
    config = {name: trained[name] for name in _KEPT if name in trained}
    if "root" in config.get("data", {}):
        config["data"] = {**config["data"], "root": "data"}
    config["trainer"] = {"precision": trained.get("trainer", {}).get("precision", "32-true")}
    config["run"] = {**trained.get("run", {}), "images_seen": checkpoint.get("images_seen")}
    part, text = path.with_name(path.name + ".part"), json.dumps(config)
    tensors = {name: _rounded(value) for name, value in own.items()}
    tensors[CONFIG] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    save_file(tensors, part, {CONFIG: text})
    mask = os.umask(0)  # safetensors makes files that nobody else can read
    os.umask(mask)
    part.chmod(0o666 & ~mask)
    os.replace(part, path)


def _rounded(value: Tensor) -> Tensor:
    small = value.is_floating_point() and value.ndim > 1
    return (value.to(torch.bfloat16) if small else value).contiguous()


def read_weights(path: str | Path) -> dict[str, Any]:
    """`state_dict`, in float32, and `config`, as a checkpoint has them. The config is not checked yet.

    Raises:
        Exception: any, if it is not such a file.
    """
    state = {}
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()[CONFIG])
        for name in (name for name in file.keys() if name != CONFIG):  # noqa: SIM118 (not a dict)
            value = file.get_tensor(name)
            state[PREFIX + name] = value.float() if value.is_floating_point() else value
    return {"config": config, "state_dict": state, "images_seen": config.get("run", {}).get("images_seen")}
