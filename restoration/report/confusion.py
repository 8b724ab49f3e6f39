"""A picture of which classes are taken for which."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

NAMED = 30  # classes; names of more cannot be read


def confusion_picture(counts: Tensor, classes: Sequence[str]) -> Image.Image:
    """Shares of the answers for the images of each class.

    Args:
        counts: images by class (rows) and answer (columns), (C, C).
        classes: their C names.
    """
    shares = counts.float() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(7.0, 6.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="answer", ylabel="class")
    if len(classes) <= NAMED:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    figure.colorbar(shown, label="share of the images of a class")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")
