"""A checkpoint of a tiny restorer whose every parameter has an effect."""

from pathlib import Path
from typing import Any

import hostile
import torch

from restoration.restorer import Restorer


def write_random_checkpoint(folder: Path, **changes: Any) -> Path:
    config = {**hostile.CLEAN, **changes}
    restorer = Restorer.build(config, "random")
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {f"restorer.{name}": value for name, value in restorer.state_dict().items()}
    torch.save({"config": config, "state_dict": state, "images_seen": 640}, folder / "best.ckpt")
    return folder / "best.ckpt"
