"""Crafted configs: what a stranger's checkpoint might name. Each would leave the file `canary` if it ran."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLEAN: dict[str, Any] = {
    "folder": "/nowhere",
    "seed": 0,
    "backbone": {
        "_target_": "restoration.backbone.ResNetUNet",
        "encoder": {"_target_": "restoration.backbone.Encoder", "model": "test_resnet", "weights": "random"},
        "widths": [16, 16, 16, 16],
        "depth": 1,
    },
    "source": {"_target_": "restoration.flow.Degraded", "sigma": 0.4},
    "sampler": {"_target_": "restoration.sampler.Midpoint", "nfe": 4},
    "prediction": {"_target_": "restoration.flow.CleanPrediction", "_partial_": True},
    "estimator": {"_target_": "restoration.estimator.Blind", "width": 16},
    "run": {"images_before": 0},
}


class Touch:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "ran")


def pickled(canary: Path) -> Path:
    """A pickle that writes the canary."""
    path = canary.with_name("payload.pth")
    with path.open("wb") as file:
        pickle.dump(Touch(canary), file)
    return path


def _node(target: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {"_target_": target, **({"_args_": list(arguments)} if arguments else {}), **more}


def _touch(canary: Path) -> dict[str, Any]:
    return _node("pathlib.Path.write_text", _node("pathlib.Path", str(canary)), "ran")


def restorer(config: Any, **more: Any) -> dict[str, Any]:
    build = {"_target_": "restoration.restorer.Restorer.build", "_recursive_": False, "weights": "checkpoint"}
    return {"_target_": "restoration.flow.PosteriorMean", "restorer": {**build, "config": config, **more}}


def _nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


def _laughs() -> list:
    lines: list = ["ha"]
    for _ in range(20):
        lines = [lines] * 10
    return lines


def _cycle() -> dict:
    around: dict = {"_target_": "restoration.flow.Degraded"}
    around["sigma"] = around
    return around


# One target each, in the place of the source. They name what runs, reads, writes or downloads something.
TARGETS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda canary: _node("os.system", f"touch {canary}"),
    "posix.system": lambda canary: _node("posix.system", f"touch {canary}"),
    "subprocess": lambda canary: _node("subprocess.run", ["touch", str(canary)]),
    "eval": lambda canary: _node("builtins.eval", f"open({str(canary)!r}, 'w')"),
    "open": lambda canary: _node("io.open", str(canary), "w"),
    "unsafe torch.load": lambda canary: _node("torch.load", str(pickled(canary)), weights_only=False),
    "torch.save": lambda canary: _node("torch.save", {"a": 1}, str(canary)),
    "pip": lambda canary: _node("pip._internal.cli.main.main", ["--log", str(canary), "list"]),
    "sympy": lambda canary: _node("sympy.parsing.sympy_parser.parse_expr", f"open({str(canary)!r}, 'w')"),
    "hydra.utils.call": lambda canary: _node("hydra.utils.call", config=_touch(canary), _recursive_=False),
    "hydra.utils.get_method": lambda canary: _node("hydra.utils.get_method", path="os.system"),
    "pathlib write": _touch,
    "shutil.copy": lambda canary: _node("shutil.copy", str(pickled(canary)), str(canary)),
    "numpy": lambda canary: _node("numpy.ndarray.tofile", _node("numpy.zeros", 3), str(canary)),
    "numpy pickle": lambda canary: _node("numpy.load", str(pickled(canary)), allow_pickle=True),
    "functools.partial": lambda canary: _node("functools.partial", _node("os.system", f"touch {canary}")),
    "torch by attributes": lambda c: _node("restoration.restorer.torch.load", str(pickled(c)), weights_only=False),
    "torch below flow": lambda c: _node("restoration.flow.tiling.torch.load", str(pickled(c)), weights_only=False),
    "os by attributes": lambda canary: _node("restoration.run.command.os.system", f"touch {canary}"),
    "shutil by attributes": lambda c: _node("restoration.data.tiny_imagenet.shutil.copy", str(pickled(c)), str(c)),
    "Path by attributes": lambda canary: _node(
        "restoration.restorer.Path.write_text", _node("restoration.restorer.Path", str(canary)), "ran"
    ),
    "globals by attributes": lambda canary: _node("restoration.flow.Noise.__init__.__globals__.get", "x"),
    "instantiate by attributes": lambda c: _node("restoration.restorer.instantiate", config=_touch(c)),
    "imported class": lambda canary: _node("restoration.flow.source.UserError", "a"),
    "method of a class": lambda canary: _node("restoration.flow.PosteriorMean.load_state_dict", {}),
    "function": lambda canary: _node("restoration.flow.to_image", 1),
    "command": lambda canary: _node("restoration.train.main"),
    "download": lambda c: _node("restoration.data.download.download", "http://127.0.0.1:9", str(c), size=1, md5=""),
    "logger as source": lambda canary: _node("restoration.training.loggers.RunCSVLogger", save_dir=str(canary)),
    "checkpoint callback as source": lambda canary: _node("restoration.callbacks.LastCheckpoint", str(canary)),
    "data as source": lambda canary: _node("restoration.data.tiny_imagenet.TinyImageNet", root=str(canary)),
    "nowhere": lambda canary: _node("restoration.flow.Nowhere"),
    "unknown package": lambda canary: _node("planted.Source"),
    "package like ours": lambda canary: _node("restoration_tools.Source"),
    "relative": lambda canary: _node("..os.system", f"touch {canary}"),
    "control characters": lambda canary: _node("os.system\n\x1b[2Jall is well", f"touch {canary}"),
    "very long": lambda canary: _node("os." * 5000 + "system"),
    "empty": lambda canary: _node(""),
    "number": lambda canary: _node(3),
    "target in target": lambda canary: _node(_touch(canary)),
    "partial": lambda canary: _node("os.system", f"touch {canary}", _partial_=True),
    "interpolated target": lambda canary: _node("${oc.decode:os.system}", f"touch {canary}"),
    "environment": lambda canary: _node("restoration.flow.Degraded", sigma="${oc.env:HOME}"),
    "relative interpolation": lambda canary: _node("restoration.flow.Degraded", sigma="${..x}"),
    "in an argument": lambda canary: _node("restoration.flow.Degraded", sigma=_touch(canary)),
    "in positional arguments": lambda canary: _node("restoration.flow.Degraded", _touch(canary)),
    "in a list": lambda canary: _node("restoration.flow.Degraded", sigma=[1, [_touch(canary)]]),
    "in an inner restorer": lambda canary: restorer({**CLEAN, "backbone": _touch(canary)}),
    "in an inner inner restorer": lambda c: restorer({**CLEAN, "source": restorer({**CLEAN, "backbone": _touch(c)})}),
    "inner config in pairs": lambda canary: restorer(
        {**CLEAN, "backbone": [[*pair] for pair in _touch(canary).items()]}
    ),
    "inner config is text": lambda canary: restorer(f"backbone: {{_target_: os.system, command: touch {canary}}}"),
    "recursive inner restorer": lambda canary: restorer(CLEAN, _recursive_=True),
    "inner restorer with a weight file": lambda canary: restorer(CLEAN, weights=str(pickled(canary))),
    "another checkpoint": lambda canary: _node(
        "restoration.flow.PosteriorMean",
        restorer=_node("restoration.restorer.Restorer.load", path=str(pickled(canary)), trust=["pathlib", "os"]),
    ),
    "restorer outside a source": lambda canary: _node("restoration.restorer.Restorer", _touch(canary)),
    "deep": lambda canary: _node("restoration.flow.Degraded", sigma=_nested(900, _touch(canary))),
    "laughs": lambda canary: _node("restoration.flow.Degraded", sigma=_laughs()),
    "cycle": lambda canary: _cycle(),
    "tensor": lambda canary: _node("restoration.flow.Degraded", sigma=torch.zeros(1)),
    "tuple": lambda canary: _node("restoration.flow.Degraded", sigma=(_touch(canary),)),
    "key of control characters": lambda canary: _node("restoration.flow.Degraded", **{"\x1b[2J\nall is well": 1}),
    "key that is no text": lambda canary: {**_node("restoration.flow.Degraded"), (1, 2): _touch(canary)},
}

# Targets in other groups, and configs that are no groups.
CONFIGS: dict[str, Callable[[Path], Any]] = {
    **{
        f"in {group}": lambda canary, group=group: {**CLEAN, group: _touch(canary)}
        for group in (
            "backbone",
            "estimator",
            "prediction",
            "sampler",
            "data",
            "corruption",
            "evaluation",
            "own",
            "run",
        )
    },
    "in callbacks": lambda canary: {**CLEAN, "callbacks": {"a": _touch(canary)}},
    "in loggers": lambda canary: {**CLEAN, "logger": {"a": _touch(canary)}},
    "in the terms": lambda canary: {
        **CLEAN,
        "objective": _node("restoration.objective.Objective", terms={"a": _node("os.system", f"touch {canary}")}),
    },
    "optimiser": lambda c: {**CLEAN, "optimizer": _node("torch.load", str(pickled(c)), weights_only=False)},
    "trainer": lambda canary: {**CLEAN, "trainer": {"_target_": "lightning.pytorch.Trainer", "logger": _touch(canary)}},
    "trainer elsewhere": lambda canary: {**CLEAN, "sampler": {"_target_": "lightning.pytorch.Trainer"}},
    "imported Path": lambda canary: {**CLEAN, "backbone": _node("restoration.backbone.encoder.Path", str(canary))},
    "imported lock": lambda canary: {**CLEAN, "data": _node("restoration.data.tiny_imagenet.FileLock", str(canary))},
    "group in pairs": lambda canary: {**CLEAN, "backbone": [[key, value] for key, value in _touch(canary).items()]},
    "trusts itself": lambda canary: {**CLEAN, "trust": ["pathlib", "pathlib.Path"], "source": _touch(canary)},
    "text": lambda canary: f"backbone: {{_target_: os.system, command: touch {canary}}}\nestimator: {{}}",
    "list": lambda canary: [_touch(canary)],
    "pairs": lambda canary: [[key, value] for key, value in {**CLEAN, "source": _touch(canary)}.items()],
    "tensor config": lambda canary: torch.zeros(2),
    "deep config": lambda canary: {**CLEAN, "run": _nested(3000, 1)},
}
