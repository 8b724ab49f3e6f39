"""A checkpoint that names nothing forbidden, but lacks something or has other values: one line, or it works."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY, composed

from restoration.data import dead_leaves
from restoration.errors import UserError
from restoration.restorer import GROUPS, Restorer
from restoration.run.checkpoint import open_checkpoint
from restoration.run.command import user_message
from restoration.run.resolve import describe_run, resolve
from restoration.trust import check_targets

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


def outcomes(act: Callable[[dict[str, Any]], Any], whole: dict[str, Any], keys: list[Any], every: bool) -> Counter[str]:
    """Opens the checkpoint with each value at each key (one value for each key unless `every`)."""
    found: Counter[str] = Counter()
    wrong = []
    for number, path in enumerate(keys):
        for value in VALUES if every else VALUES[number % len(VALUES) :][:1]:
            try:
                act(spoilt(whole, path, value))
            except Exception as error:
                said = user_message(error)
                found["refused"] += 1
                if said is None or not said.isprintable() or len(said) > 500:
                    wrong.append((path, value, repr(error)[:200], said))
            else:
                found["opened"] += 1
    print(dict(found))
    assert not wrong, wrong
    return found


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    return checkpoint(tmp_path)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_network_s_part(every: bool, whole: dict[str, Any], tmp_path: Path):
    def load(other: dict[str, Any]) -> None:
        torch.save(other, tmp_path / "a.ckpt")
        Restorer.load(tmp_path / "a.ckpt")

    keys = [("config",), ("state_dict",), *(("config", group) for group in GROUPS)]
    keys += [("config", group, *path) for group in GROUPS for path in paths(whole["config"][group])]
    found = outcomes(load, whole, keys, every)
    assert found["refused"] > found["opened"]


def test_a_huge_network_takes_no_memory(whole: dict[str, Any], tmp_path: Path):
    """It is compared with the weights before: this one would take 300 GB."""
    whole["config"]["backbone"] |= {"widths": [4096] * 4, "depth": 64}
    torch.save(whole, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="its weights do not fit the network of its config"):
        Restorer.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_other_parts(every: bool, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    restorer = Restorer.build(whole["config"])
    monkeypatch.setattr(Restorer, "load", lambda *_: restorer)
    monkeypatch.setattr(dead_leaves, "dead_leaves", lambda index, size, _: np.zeros((len(index), size, size, 3), "u1"))
    keys = [path for path in paths(whole["config"]) if path[0] not in GROUPS]
    with composed("evaluate", "checkpoint=a.ckpt", "device=cpu") as config:

        def evaluate(other: dict[str, Any]) -> None:
            check_targets(other["config"])
            restorer.config = other["config"]
            open_checkpoint(copy.deepcopy(config))

        outcomes(evaluate, whole, [("config", *path) for path in keys], every)
