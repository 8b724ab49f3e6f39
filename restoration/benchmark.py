"""How fast backbones restore: interleaved in one process, as ratios to the first.

python -m restoration.benchmark resnet34_unet resnet34_unet_state --nfe 1 8 100
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from restoration.config import autocast_dtype, command, resolve_precision
from restoration.errors import UserError
from restoration.restorer import Restorer

__all__ = ["build", "main", "measure"]

CONF = Path(__file__).parents[1] / "conf"


def build(backbone: str, overrides: Sequence[str] = ()) -> Restorer:
    """A restorer of the default config with an option of the group `backbone`, of random weights."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"backbone={backbone}", "backbone.encoder.weights=random", *overrides])
    groups: dict[str, Any] = {
        name: OmegaConf.to_container(config[name]) for name in ("backbone", "source", "sampler", "prediction")
    }
    return Restorer.build(groups).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def measure(
    restorers: Sequence[Restorer], nfe: int, size: int, batch: int, rounds: int, device: str, precision: str
) -> list[list[float]]:
    """Seconds per image of each restorer in each round; they take turns, and a first round does not count.

    Args:
        restorers: on the device.
        nfe: evaluations per image.
        size: of the square images, pixels.
        batch: images restored at a time.
        rounds: timed rounds.
        device: "cpu" or "cuda".
        precision: of the network, as the trainer names it.
    """
    degraded, keys = torch.rand(batch, 3, size, size, device=device), torch.arange(batch)
    dtype = autocast_dtype(precision)
    seconds: list[list[float]] = [[] for _ in restorers]
    for number in range(rounds + 1):
        for restorer, times in zip(restorers, seconds, strict=True):
            began = time.perf_counter()
            with torch.autocast(device, dtype, enabled=dtype is not None):
                restorer.restore(degraded, keys, nfe)
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times.append((time.perf_counter() - began) / batch)
    return seconds


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m restoration.benchmark", description="How fast backbones restore.")
    parser.add_argument("backbones", nargs="+", help="options of conf/backbone; ratios are to the first")
    parser.add_argument("--nfe", nargs="+", type=int, default=[1, 8, 100])
    parser.add_argument("--size", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile; its time is not counted")
    options, overrides = parser.parse_known_args(arguments)
    for backbone in options.backbones:
        if not (CONF / "backbone" / f"{backbone}.yaml").is_file():
            known = ", ".join(sorted(path.stem for path in (CONF / "backbone").glob("*.yaml")))
            raise UserError(f"no backbone {backbone!r}; there are {known}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = str(resolve_precision("auto", "auto"))
    # The first twice: what its two rows differ by is noise.
    names = [*options.backbones, options.backbones[0]]
    restorers = [build(name, overrides).to(device) for name in names]
    if options.compile:
        for restorer in restorers:
            restorer.backbone.compile()
    table = Table(
        title=f"{device}, {precision}, {options.size} px, batch {options.batch}, median of {options.rounds} rounds"
        + (", compiled" if options.compile else "")
    )
    for heading in ("backbone", "NFE", "ms per image", "least", "most", "times the first"):
        table.add_column(heading, justify="left" if heading == "backbone" else "right")
    for nfe in options.nfe:
        seconds = measure(restorers, nfe, options.size, options.batch, options.rounds, device, precision)
        first = statistics.median(seconds[0])
        for name, times in zip(names, seconds, strict=True):
            middle = statistics.median(times)
            figures = (1000 * figure for figure in (middle, min(times), max(times)))
            table.add_row(name, str(nfe), *(f"{figure:.2f}" for figure in figures), f"{middle / first:.2f}")
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
