"""A checkpoint that names nothing forbidden, but lacks something or has other values: one line, or it works."""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from helpers import TINY, composed

from restoration.restorer import Restorer
from restoration.run.checkpoint import open_checkpoint
from restoration.run.command import user_message
from restoration.run.resolve import describe_run, resolve

ABSENT = object()
VALUES = (ABSENT, None, "banana", [], 1_000_000_000)


def checkpoint(folder: Path) -> dict[str, Any]:
    """That of a run that has not been trained."""
    with composed("train", "experiment=blur_erase", *TINY, f"folder={folder}") as config:
        describe_run(config)
        resolved = resolve(config)
    state = {f"restorer.{name}": value for name, value in Restorer.build(resolved).state_dict().items()}
    return {"config": resolved, "state_dict": state, "images_seen": 0, "global_step": 0, "callbacks": {}}


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all values, mappings and lists included."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key))


def spoilt(whole: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value there, or without it."""
    other = {**whole, "config": copy.deepcopy(whole["config"])}
    node: Any = other
    for key in path[:-1]:
        node = node[key]
    if value is ABSENT:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return other


def test_evaluate(tmp_path: Path):
    whole = checkpoint(tmp_path)
    outcome: Counter[str] = Counter()
    wrong = []
    with composed("evaluate", f"checkpoint={tmp_path / 'a.ckpt'}", "device=cpu") as config:
        tried = [("config",), ("state_dict",), *(("config", *path) for path in paths(whole["config"]))]
        for path in tried:
            for value in VALUES:
                torch.save(spoilt(whole, path, value), tmp_path / "a.ckpt")
                now = copy.deepcopy(config)
                try:
                    open_checkpoint(now)
                except Exception as error:
                    said = user_message(error)
                    outcome["refused"] += 1
                    if said is None or not said.isprintable() or len(said) > 500:
                        wrong.append((path, value, repr(error)[:200], said))
                else:
                    outcome["opened"] += 1
    print(dict(outcome))
    for w in wrong:
        print(w)
    assert not wrong
