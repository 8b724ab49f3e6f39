"""Run folders with known results, as the end of a training leaves them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from restoration.metrics.evaluation import EvaluationResult
from restoration.report.folder import Report
from restoration.report.write import write_results

IMAGES = 40
METRICS = {"psnr": 20.0, "ssim": 0.6, "psnr_hole": 14.0, "psnr_known": 24.0}


def _table(columns: dict[str, float], **more: Any) -> dict[str, Any]:
    intervals = {f"{name}_ci": [value - 0.25, value + 0.25] for name, value in columns.items()}
    return {**columns, **intervals, **more}


def write_run(
    folder: Path, name: str = "run", gain: float = 3.0, strength: float = 1.0, side: int = 16, seed: int = 0
) -> Report:
    """A run at 1 and 8 NFE: `gain` dB above the degraded images at 1, and 1 dB less at 8.

    Args:
        side: of the pictures, which are noise: nothing makes them small.
        seed: of the restored pictures. The clean and degraded ones are the same in all runs of a strength.
    """
    level = {"psnr": 20.0 - 8 * strength, "ssim": 0.4, "psnr_hole": 6.0, "psnr_known": 22.0}
    by_nfe, rows = [], []
    for nfe, loss in ((1, 0.0), (8, 1.0)):
        metrics = {metric: value + (gain - loss if metric != "ssim" else 0.1) for metric, value in level.items()}
        frechet = {"frechet_maps": 9.0 - gain - 2 * loss, "frechet_maps_ci": [1.0, 12.0]}
        frechet["frechet_maps_left_out"] = [9.0 - gain - 2 * loss + 0.01 * (-1) ** group for group in range(10)]
        by_nfe.append(_table(metrics, nfe=nfe, solver="Euler", texture_ratio=0.5, **frechet, images_per_second=10.0))
        for index in range(IMAGES):
            noise = 0.2 * np.sin(index + 50 * gain)  # differs between runs, not with the NFE
            row = {"index": 100 + index, "severity": index / IMAGES, "hole": 0.1, "nfe": nfe}
            row |= {metric: value + noise for metric, value in metrics.items()}
            rows.append(row | {f"identity_{metric}": value for metric, value in level.items()})
    severities = [
        {
            **{"low": low, "high": low + 0.5, "n": 20, "identity": _table(level)},
            "by_nfe": [_table({"psnr": level["psnr"] + gain, "gain": gain, "psnr_hole": 9.0}, nfe=1)],
        }
        for low in (0.0, 0.5)
    ]
    report = {"n": IMAGES, "identity": _table(level), "classical": {"mean_fill": _table({"psnr": 15.0})}}
    report |= {"restored": by_nfe[0], "by_nfe": by_nfe, "by_severity": severities, "by_hole": []}
    report["images_per_second"] = 10.0
    seeds = {"clean": 0, "degraded": 1 + int(100 * strength), "NFE 1": 1000 + 2 * seed, "NFE 8": 1001 + 2 * seed}
    examples = {
        title: torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(own))
        for title, own in seeds.items()
    }
    run = {"experiment": "blur_erase", "name": name, "strength": strength, "severity": "uniform", "seed": seed}
    run |= {
        "overrides": [f"++corruption.strength={strength}", "data=dead_leaves"],
        "data": "dead_leaves",
        "image_size": side,
    }
    written = write_results(EvaluationResult(report, rows, examples), run, folder)
    config = {"name": name, "folder": str(folder), "seed": seed, "data": {"image_size": side}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = ["step,train/loss,val/psnr", *(f"{step},{1 / (step + 1)}," for step in range(300)), f"299,,{10 + gain}"]
    (folder / "metrics.csv").write_text("\n".join([*lines, f"150,,{9 + gain}"]) + "\n")
    return written
