"""Every key misspelt once, and every value replaced once: a message that names the key, or it does no harm."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import CONF, composed
from omegaconf import OmegaConf

from restoration.errors import UserError
from restoration.run.keys import check_keys, check_values, reference_config

OPTIONS: dict[str, list[str]] = {}
for path in sorted(CONF.glob("*/*.yaml")):
    OPTIONS.setdefault(path.parent.name, []).append(path.stem)
COMMANDS = ("train", "evaluate", "restore", "tune")
VALUES = (-1, 0, 1_000_000_000, None, "banana")
# Any value is possible: a name.
FREE = {"name", "run.label", "run.group"}


def groups(command: str) -> dict[str, list[str]]:
    """The groups of a command, with their options."""
    defaults = [next(iter(entry)) for entry in OmegaConf.load(CONF / f"{command}.yaml").defaults if entry != "_self_"]
    return {name: OPTIONS[name] for name in defaults if name in OPTIONS}


def choices(command: str) -> Iterator[list[str]]:
    """Overrides, so that each option of each group of the command is in one of them."""
    kinds = groups(command)
    yield from ([f"experiment={option}"] for option in kinds.pop("experiment", []))
    # Others only choose options of other groups.
    files = [
        name for name in kinds.pop("ablation", []) if "defaults" not in OmegaConf.load(CONF / f"ablation/{name}.yaml")
    ]
    yield from ([f"ablation=[{','.join(part)}]"] for part in (files[::2], files[1::2]) if part)
    for number in range(max(map(len, kinds.values()))):
        yield [f"{kind}={options[number % len(options)]}" for kind, options in kinds.items()]


def leaves(node: Any, path: tuple[Any, ...] = (), target: str = "") -> Iterator[tuple[tuple[Any, ...], str]]:
    """The path of every value that is no mapping, elements of lists included, and the class that takes it."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    target = node.get("_target_", target) if isinstance(node, dict) else target
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key), target)
        if not isinstance(value, dict):
            yield (*path, key), target


def changed(plain: dict[str, Any], path: tuple[Any, ...], value: Any, name: Any = None) -> dict[str, Any]:
    """A copy with another value, or with another name."""
    whole = copy.deepcopy(plain)
    node: Any = whole
    for key in path[:-1]:
        node = node[key]
    if name is not None:
        value = node.pop(path[-1])
    node[path[-1] if name is None else name] = value
    return whole


def misspelt(name: str) -> str:
    """Two letters exchanged, or one doubled."""
    swapped = name[:-2] + name[-1] + name[-2]
    return swapped if swapped != name else name + name[-1]


def message(check: Any, *configs: Any) -> str | None:
    try:
        check(*configs)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 400
        return str(error)
    return None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_and_value(command: str):
    seen = set()
    counts = {"keys": 0, "misspelt refused": 0, "values": 0, "values refused": 0}
    wrong = []
    for overrides in choices(command):
        with composed(command, *overrides) as config:
            reference = reference_config()
            plain: dict[str, Any] = OmegaConf.to_container(config)
            assert message(check_keys, config, reference) is None and message(check_values, config) is None
            for path, target in leaves(plain):
                if (path, target) in seen:
                    continue
                seen.add((path, target))
                dotted = ".".join(map(str, path))
                if isinstance(path[-1], str):
                    counts["keys"] += 1
                    said = message(
                        check_keys, OmegaConf.create(changed(plain, path, None, misspelt(path[-1]))), reference
                    )
                    if said is None or misspelt(path[-1]) not in said:
                        wrong.append((dotted, "misspelt", said))
                    else:
                        counts["misspelt refused"] += 1
                for value in VALUES:
                    counts["values"] += 1
                    said = message(check_values, changed(plain, path, value))
                    if said is not None:
                        counts["values refused"] += 1
                        if str(path[-1]) not in said:
                            wrong.append((dotted, value, said))
                    else:
                        wrong.append((dotted, value, "ACCEPTED"))
    print(command, counts)
    for w in wrong:
        print(*w)
