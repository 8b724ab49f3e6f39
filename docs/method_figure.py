"""Draws docs/images/method.png: what the estimator gives, and the path of the flow, on procedural images.

python docs/method_figure.py
"""

from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from restoration.data.dead_leaves import dead_leaves
from restoration.flow import interpolate, to_image, to_model
from restoration.keyed import fold
from restoration.metrics.pictures import picture_grid
from restoration.run.command import CONF

with initialize_config_dir(str(CONF), version_base="1.3"):
    config = compose("train", ["experiment=demo"])
torch.manual_seed(0)
index = torch.tensor([3, 11, 14])
clean = torch.from_numpy(dead_leaves(np.asarray(index), 64, 0)).permute(0, 3, 1, 2).float() / 255
keys = fold("figure", index)
degraded, mask, _ = instantiate(config.corruption)(clean, keys)
with torch.no_grad():
    estimate = instantiate(config.estimator)(to_model(degraded))
x_0 = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
columns = {
    "clean": clean,
    "degraded": degraded,
    "hole": estimate.hole,
    "initial": to_image(estimate.initial),
    "residual std": estimate.residual_std,
    **{f"t = {t}": to_image(interpolate(x_0, to_model(clean), torch.full((3,), t))) for t in (0.0, 0.25, 0.5, 0.75)},
}
target = Path(__file__).parent / "images" / "method.png"
picture_grid({title: images.expand(-1, 3, -1, -1) for title, images in columns.items()}).quantize(128).save(target)
