"""A picture of where a classifier sees its class in clean, degraded and restored images."""

import io

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from restoration.metrics.collector import Seen

RIGHT, WRONG = "#1b7837", "#b2182b"
EVIDENCE = LinearSegmentedColormap.from_list("evidence", [(1, 0.55, 0, 0), (1, 0.55, 0, 0.8)])  # clear to orange
LETTERS = 18  # of a class's name; more would run into the next picture


def seen_picture(examples: dict[str, Tensor], seen: Seen) -> Image.Image:
    """A row for each image: clean, degraded and restored in grey, with the map in orange, and below them the answer and
    its probability, green if it is right.

    Args:
        examples: title -> (N, 3, H, W) in [0, 1], the clean images last.
        seen: in them.
    """
    titles = [list(examples)[-1], *list(examples)[:-1]]
    rows = len(seen.labels)
    figure = Figure(figsize=(1.75 * len(titles) + 0.9, 2.02 * rows + 0.75), dpi=120, layout="constrained")
    grid = figure.subplots(rows, len(titles), squeeze=False)
    for column, title in enumerate(titles):
        found = seen.maps[title]
        for row, label in enumerate(seen.labels):
            axes, answer = grid[row][column], int(found.answers[row])
            grey = examples[title][row].float().clamp(0, 1).mean(dim=0).numpy()
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.imshow(found.maps[row].numpy(), cmap=EVIDENCE, vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            said = f"{_short(seen.classes[answer])}  {100 * float(found.probabilities[row]):.0f} %"
            axes.set_xlabel(said, color=RIGHT if answer == label else WRONG, fontsize=9, labelpad=2)
            if not row:
                axes.set_title(title, fontsize=10)
            if not column:
                axes.set_ylabel(f"class {_short(seen.classes[label])}", fontsize=9)
    # A colour bar does not draw transparent colours as a picture does: these are the same on white.
    opaque = LinearSegmentedColormap.from_list("opaque", ["white", (1, 0.64, 0.2)])
    bar = figure.colorbar(ScalarMappable(cmap=opaque), ax=grid, location="bottom", aspect=40, pad=0.01, shrink=0.8)
    bar.set_label("evidence for the answer (Grad-CAM), 1: the most in an image", fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
