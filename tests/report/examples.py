"""Results of runs with known values."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from restoration.report.table import table


def metrics(strength: float, gain: float = 4.0) -> dict[str, Any]:
    """metrics.json: identity at 24 - 8 s dB, restored `gain` dB above it, half a dB less per doubling of NFE."""
    identity = 24 - 8 * strength
    points = [
        {
            "nfe": nfe,
            "solver": "midpoint",
            "psnr": identity + gain - loss,
            "psnr_ci": [0.0, 99.0],
            "ssim": 0.7,
            "psnr_hole": 20.0 - loss,
            "psnr_known": 25.0,
            "texture_ratio": 0.1 + loss,
            "spread_hole": 0.05,
            "frechet_resnet34_tin": 3.25,
            "frechet_resnet34_tin_ci": [3.0, 3.5],
            "frechet_resnet34_tin_left_out": [3.25 + 0.1 * (-1) ** group for group in range(10)],
        }
        for nfe, loss in ((8, 1.5), (1, 0.0))
    ]
    return {
        "identity": {"psnr": identity, "ssim": 0.4, "psnr_hole": 6.0, "psnr_known": 22.0},
        "classical": {"mean_fill": {"psnr": identity + 2, "psnr_hole": 15.0, "psnr_known": None}},
        "restored": points[0],
        "by_nfe": points,
        "n": 1000,
        "images_per_second": 12.5,
        "run": {"experiment": "blur_erase", "name": f"s{strength}", "strength": strength, "severity": "uniform"},
    }


def save(folder: Path, content: dict[str, Any] | str) -> Path:
    """Writes the content as metrics.json into a new folder."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def shown(results: list[dict[str, Any]]) -> list[list[str]]:
    """The cells of the printed table."""
    console = Console(width=240, record=True, file=StringIO())
    console.print(table(results))
    lines = [line for line in console.export_text().splitlines() if line[:1] in "│┃"]
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
