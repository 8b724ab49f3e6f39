"""Where a training step of the default backbone goes, and what each lever of it saves."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from restoration.benchmark.contenders import BASELINE, Contender, ours, peer
from restoration.benchmark.networks import present, put, table, timed
from restoration.benchmark.page import Figures
from restoration.benchmark.settings import Settings

_SMP = "smp Unet(resnet34), no time"
_STEM = "backbone.encoder.stem=imagenet"
# By what the row says: overrides of the default backbone, one lever at a time, then together.
LEVERS = {
    "default": "",
    "encoder frozen (stage 1)": "",
    "estimator=identity": "estimator=identity",
    "no group normalisation": "",
    "depth 1": "backbone.depth=1",
    "half the finest level: widths [32, 128, 256, 384]": "backbone.widths=[32,128,256,384]",
    "half the coarsest: widths [64, 128, 256, 192]": "backbone.widths=[64,128,256,192]",
    "narrow: widths [64, 96, 128, 192]": "backbone.widths=[64,96,128,192]",
    "max-pool: stem imagenet, widths [64, 128, 256, 384, 384]": f"{_STEM} backbone.widths=[64,128,256,384,384]",
    "max-pool, narrow: widths [32, 64, 128, 256, 384]": f"{_STEM} backbone.widths=[32,64,128,256,384]",
    "max-pool, narrow, depth 1": f"{_STEM} backbone.widths=[32,64,128,256,384] backbone.depth=1",
}


def _variant(label: str, overrides: str, settings: Settings) -> Contender:
    stage = "stage 1" if "frozen" in label else "stage 2"
    made = ours(f"{BASELINE} {overrides}", settings.device, settings.precision, settings.overrides, stage)
    made.name = label
    if "no group" in label:
        assert made.network is not None
        for name, part in list(made.network.named_modules()):
            if isinstance(part, nn.GroupNorm):
                made.network.set_submodule(name, nn.Identity())
    return made


def levers(_: list[Contender], settings: Settings) -> Figures:
    """Training steps of variants of the default backbone, beside the smp U-Net."""
    batch = 2 if settings.smoke else 8
    labels = list(LEVERS)[:: 10 if settings.smoke else 1]
    rivals = [_variant(label, LEVERS[label], settings) for label in labels]
    rivals += [peer(_SMP, settings.device, settings.precision), _variant("default", "", settings)]
    rivals[-1].name = "default, again"
    text = (
        f"One change to `{BASELINE}` at a time: forward and backward of a batch of {batch}, {settings.pixels}. "
        "This is time only; what a change costs in quality is another question."
    )
    figures = table("Where a training step goes: levers", text, rivals, settings.side)
    calls = {number: rivals[number].step(settings.side, batch) for number in present(rivals)}
    put(figures, "ms", {key: 1000 * value for key, value in timed(calls, settings).items()})
    return figures


# Kinds of operations by parts of their names, the first that fits.
_KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("conv",),
    "normalisation": ("group_norm", "batch_norm"),
    "activation": ("silu", "relu", "threshold"),
    "concatenation, interpolation, pixel-shuffle, copies": (
        *("cat", "upsample", "copy", "pixel", "clone", "contiguous", "pool", "slice_backward", "narrow"),
    ),
    "additions and products": ("add", "mul", "sum", "sub", "div", "addcmul", "where", "clamp"),
}


def _kind(name: str) -> str:
    return next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), "others")


def operations_of_a_step(_: list[Contender], settings: Settings) -> Figures:
    """Milliseconds of a training step by kind of operation."""
    batch, rounds = (2, 1) if settings.smoke else (8, 3)
    rivals = [
        ours(BASELINE, settings.device, settings.precision, settings.overrides),
        ours(
            f"{BASELINE} {LEVERS['max-pool: stem imagenet, widths [64, 128, 256, 384, 384]']}",
            settings.device,
            settings.precision,
            settings.overrides,
        ),
        peer(_SMP, settings.device, settings.precision),
    ]
    rivals[1].name = f"{BASELINE} with max-pool"
    columns = {}
    for number in present(rivals):
        columns[rivals[number].name] = _profiled(rivals[number].step(settings.side, batch), rounds)
    rows: list[dict[str, Any]] = []
    for kind in [*_KINDS, "others", "all"]:
        rows.append({"operation": kind} | {name: spent.get(kind, 0.0) for name, spent in columns.items()})
    text = (
        f"Milliseconds of a training step, batch {batch}, {settings.pixels}, by torch's profiler: each "
        f"operation's own time; median of {rounds} steps."
    )
    return Figures("Where a training step goes: operations", text, rows)


def _profiled(step: Callable[[], object], rounds: int) -> dict[str, float]:
    """Milliseconds by kind of operation."""
    step()
    spent: dict[str, list[float]] = {}
    for number in range(rounds):
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        with profile(activities=activities) as profiler:
            step()
        for event in profiler.key_averages():
            if not event.key.startswith("aten::"):
                continue  # kernels, whose time is that of their operation too, and the engine of autograd
            own = event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total
            for kind in (_kind(event.key.lower()), "all"):
                values = spent.setdefault(kind, [])
                values.extend([0.0] * (number + 1 - len(values)))
                values[number] += own / 1000
    return {kind: statistics.median(values) for kind, values in spent.items()}
