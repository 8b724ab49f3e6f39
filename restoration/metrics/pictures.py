"""Pictures of results: restored images side by side, and quality against NFE."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["grid", "nfe_curve"]

TILE = 160
"""Pixels to which the longer side of a small image is about enlarged."""


def to_uint8(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] to uint8 (N, H, W, 3), rounded to nearest."""
    return (images.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def grid(columns: dict[str, Tensor], scale: int | None = None) -> Image.Image:
    """One row per image, one titled column per kind of picture, on white.

    Args:
        columns: title -> (N, 3, H, W) in [0, 1]; all of one shape.
        scale: how many times to enlarge, by repeating pixels; None picks what brings the images to about 160 px.

    Raises:
        ValueError: no column, or columns of different shapes.
    """
    shapes = {tuple(images.shape) for images in columns.values()}
    if len(shapes) != 1:
        raise ValueError(f"the columns of a picture grid have shapes {sorted(shapes)}; they must all have one shape")
    count, _, height, width = shapes.pop()
    if scale is None:
        scale = max(1, round(TILE / max(height, width)))
    tile_height, tile_width = height * scale, width * scale

    gap, margin, title_height = 4, 10, 30
    size = (
        2 * margin + len(columns) * (tile_width + gap) - gap,
        title_height + margin + count * (tile_height + gap) - gap,
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, images) in enumerate(columns.items()):
        left = margin + column * (tile_width + gap)
        draw.text((left + tile_width / 2, title_height / 2), title, "#222222", _font(draw, title, tile_width), "mm")
        for row, pixels in enumerate(to_uint8(images)):
            tile = Image.fromarray(pixels).resize((tile_width, tile_height), Image.Resampling.NEAREST)
            canvas.paste(tile, (left, title_height + row * (tile_height + gap)))
    return canvas


def _font(draw: ImageDraw.ImageDraw, title: str, width: int) -> Any:
    """Pillow's own font, as large as the title may be in its column."""
    for size in range(16, 8, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(title, font) <= width:
            break
    return font


def nfe_curve(report: dict[str, Any]) -> Figure:
    """PSNR, hole texture and, where measured, the Fréchet distance against NFE, with 95 % intervals.

    The perception-distortion curve of one checkpoint (Blau & Michaeli 2018).

    Args:
        report: as `Evaluation` makes it.
    """
    entries = sorted(report["by_nfe"], key=lambda entry: entry["nfe"])
    frechet = next((key for key in entries[0] if key.startswith("frechet_")), None)
    panels: list[tuple[str, list[tuple[str, str, str]]]] = [
        (
            "PSNR (dB), higher is better",
            [("psnr", "whole image", "#1f4e79"), ("psnr_known", "known", "#4c9f70"), ("psnr_hole", "hole", "#d1603d")],
        )
    ]
    if entries[0]["texture_ratio"] is not None:
        panels.append(("hole texture, 1 is right", [("texture_ratio", "restored / clean", "#d1603d")]))
    if frechet is not None:
        panels.append((f"{frechet}, lower is better", [(frechet, frechet, "#6a4c93")]))

    figure = Figure(figsize=(4.2 * len(panels), 3.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        for key, label, colour in lines:
            drawn = [entry for entry in entries if entry[key] is not None]
            if not drawn:
                continue
            steps, values = [entry["nfe"] for entry in drawn], [entry[key] for entry in drawn]
            axes.plot(steps, values, "o-", color=colour, label=label, linewidth=1.8, markersize=4.5)
            if f"{key}_ci" in drawn[0]:
                low, high = zip(*(entry[f"{key}_ci"] for entry in drawn), strict=True)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        if lines[0][0] == "psnr":
            axes.axhline(report["identity"]["psnr"], color="#888888", linestyle=":", label="degraded, whole image")
        if lines[0][0] == "texture_ratio":
            axes.axhline(1.0, color="#888888", linestyle=":")
            axes.set_ylim(bottom=0.0)
        if len(lines) > 1:
            axes.legend(edgecolor="none", framealpha=0.8, fontsize=8)  # readable where it meets a curve
        axes.set_xscale("log", base=2)
        axes.set_xticks([entry["nfe"] for entry in entries], [str(entry["nfe"]) for entry in entries])
        axes.minorticks_off()
        axes.set_xlabel("NFE (passes through the network)")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{report['n']:,} images, {entries[0]['solver']}", fontsize=9, color="#555555")
    return figure
