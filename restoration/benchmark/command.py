"""The command: backbones beside each other as a table, or all tables of docs/benchmarks.md.

python -m restoration.benchmark resnet34_unet resnet34_unet_state --nfe 1 8 100
python -m restoration.benchmark resnet34_unet "resnet34_unet backbone.depth=1" --size 64 128 --train --memory
python -m restoration.benchmark --page docs/benchmarks.md
python -m restoration.benchmark --page docs/benchmarks.md --tables quality --runs outputs/a/first outputs/b/first
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from restoration.benchmark.ours import STAGES, build, memory, work
from restoration.benchmark.suite import TABLES, Settings, suite
from restoration.benchmark.timing import measure
from restoration.errors import UserError
from restoration.run.command import CONF, command
from restoration.run.hardware import resolve_precision


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m restoration.benchmark", description="How fast backbones restore.")
    parser.add_argument(
        "backbones",
        nargs="*",
        help="options of conf/backbone, each with overrides of its own in the same quotes; ratios are to the first",
    )
    parser.add_argument("--page", type=Path, help="instead: all tables, with networks of other packages, in this file")
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="of --page, all by default; others stay")
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[], help="of the table quality: run folders, the reference first"
    )
    parser.add_argument(
        "--limit", type=float, default=60, help="of --page: seconds a call may take, else it is derived"
    )
    parser.add_argument("--smoke", action="store_true", help="of --page: small images and batches, each call once")
    parser.add_argument("--nfe", nargs="+", type=int, default=[1, 8, 100])
    parser.add_argument("--size", nargs="+", type=int, default=[64], help="of the images, pixels")
    parser.add_argument("--batch", type=int, default=16, help="images of the first size; as many pixels for others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", action="store_true", help="also training steps, encoder frozen and unfrozen")
    parser.add_argument("--memory", action="store_true", help="also peak memory per image (on a CPU: Linux only)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, its time not counted")
    parser.add_argument("--config-dir", type=Path, default=CONF, help="a folder with configs of your own")
    options, overrides = parser.parse_known_args(arguments)
    overrides.append(f"hydra.searchpath=[file://{options.config_dir.absolute()}]")
    known = {path.stem for folder in (CONF, options.config_dir) for path in (folder / "backbone").glob("*.yaml")}
    for variant in options.backbones:
        if variant.split()[0] not in known:
            raise UserError(f"no backbone {variant.split()[0]!r}; there are {', '.join(sorted(known))}")
    if (options.page is None) != bool(options.backbones):
        raise UserError("give either backbones, such as resnet34_unet unet, or --page FILE for all tables")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = str(resolve_precision("auto", "auto"))
    if options.page is not None:
        rounds = 1 if options.smoke else options.rounds
        measured = (options.limit, options.compile, options.smoke, overrides)
        settings = Settings(device, precision, rounds, *measured, options.runs)
        tables = options.tables or [name for name in TABLES if name != "quality" or options.runs]
        if "quality" in tables and not options.runs:
            raise UserError("the table quality needs --runs with run folders of restoration.train, the reference first")
        print(suite(options.page, tables, settings))
        return
    # The first twice: what its two rows differ by is noise.
    names = [*options.backbones, options.backbones[0]]
    built = [build(name, overrides) for name in names]
    for restorer, _ in built:
        restorer.to(device)
        if options.compile:
            restorer.backbone.compile()
    table = Table(title=f"{device}, {precision}, median of {options.rounds} rounds{', compiled' * options.compile}")
    table.add_column("backbone", overflow="fold")
    for heading in ("pixels", "batch", "NFE", "ms per image", "least", "most", "times the first", "MB per image"):
        if options.memory or heading != "MB per image":
            table.add_column(heading, justify="right", overflow="fold")
    for size in options.size:
        batch = max(1, options.batch * options.size[0] ** 2 // size**2)
        for task in [*options.nfe, *(STAGES if options.train else ())]:
            how: Any = (task, size, batch, device, precision)
            calls = [work(restorer, objective, *how) for restorer, objective in built]
            seconds = measure(calls, options.rounds, device)
            first = statistics.median(seconds[0])
            # The first's two rows share one figure: a process's memory does not depend on the company.
            peaks = {name: memory(name, overrides, *how) for name in options.backbones} if options.memory else {}
            for name, times in zip(names, seconds, strict=True):
                middle = statistics.median(times)
                figures = [f"{1000 * figure / batch:.2f}" for figure in (middle, min(times), max(times))]
                figures.append(f"{middle / first:.2f}")
                if options.memory:
                    figures.append(f"{peaks[name] / 1e6:.0f}")
                table.add_row(name, str(size), str(batch), str(task), *figures)
            table.add_section()
    # A pipe has no width; rich's 80 columns would fold the names.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
