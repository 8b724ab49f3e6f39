"""Every key misspelt once, and every value replaced once: a message that names the key, or it does no harm."""

import copy
import functools
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import CONF, TINY, composed, without_account
from omegaconf import OmegaConf

from restoration.errors import UserError
from restoration.run.command import config_folder, user_message
from restoration.run.keys import check_keys, check_values, reference_config
from restoration.train import train

COMMANDS = ("train", "pretrain", "evaluate", "restore", "tune")
VALUES = (-1, 0, 1_000_000_000, None, "banana")


def groups(command: str) -> dict[str, list[str]]:
    """The groups of a command, with their options."""
    options: dict[str, set[str]] = {}
    for path in [*CONF.glob("*/*.yaml"), *config_folder(command).glob("*/*.yaml")]:
        options.setdefault(path.parent.name, set()).add(path.stem)
    defaults = [next(iter(entry)) for entry in OmegaConf.load(CONF / f"{command}.yaml").defaults if entry != "_self_"]
    return {name: sorted(options[name]) for name in defaults if name in options}


def choices(command: str) -> Iterator[list[str]]:
    """Overrides, so that each option of each group of the command is in one of them."""
    kinds = groups(command)
    kinds.pop("experiment", None)  # Experiments choose options of other groups, and so do the ablations left out here.
    files = [
        name for name in kinds.pop("ablation", []) if "defaults" not in OmegaConf.load(CONF / f"ablation/{name}.yaml")
    ]
    yield from ([f"ablation=[{','.join(part)}]"] for part in (files[::2], files[1::2]) if part)
    for number in range(max(map(len, kinds.values()))):
        own = ["experiment=resnet34_tiny_imagenet"] if command == "pretrain" else []  # its default one has no W&B
        yield [*own, *(f"{kind}={options[number % len(options)]}" for kind, options in kinds.items())]


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


def accepted(command: str, wrong: list[Any], counts: Counter[str]) -> Iterator[tuple[list[str], str, Any]]:
    """Tries all keys and values of a command; what the checks accept, with the overrides that it belongs to."""
    seen = set()
    for number, overrides in enumerate(choices(command)):
        with composed(command, *overrides, config_dir=config_folder(command)) as config:
            whole: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
            if number == 0:
                check_keys(config, reference_config())
        for path, target in leaves(whole):
            if (path, target) in seen:
                continue
            seen.add((path, target))
            # The rest of the config is checked with other leaves.
            plain = whole if len(path) == 1 else {path[0]: whole[path[0]]}
            reference = OmegaConf.create(plain)
            dotted = ".".join(map(str, path))
            if isinstance(path[-1], str) and "options" not in path:  # those go to timm, which knows their names
                counts["keys"] += 1
                other = misspelt(path[-1])
                said = message(check_keys, OmegaConf.create(changed(plain, path, None, other)), reference)
                if said is None or other not in said:
                    wrong.append((dotted, other, said))
            for value in VALUES:
                counts["values"] += 1
                now = changed(plain, path, value)
                said = message(check_values, now)
                if said is None and path[-1] == "_target_":
                    said = message(check_keys, OmegaConf.create(now), reference)
                if said is None:
                    yield overrides, dotted, value
                    continue
                counts["refused"] += 1
                if str(path[-1]) not in said:
                    wrong.append((dotted, value, said))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_and_value_is_checked(command: str):
    wrong: list[Any] = []
    counts: Counter[str] = Counter()
    harmless = {(key, value) for _, key, value in accepted(command, wrong, counts)}
    print(f"{command}: {dict(counts)}, {len(harmless)} values are possible")
    assert not wrong
    assert counts["refused"] > 2 * len(harmless)


def attempt(act: Callable[[], Any]) -> str | None:
    """The line that a command would show; None if it succeeds, and the error if it would show a traceback."""

    def late(*_: Any) -> None:
        raise TimeoutError("it takes too long")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(90)
    try:
        act()
    except Exception as error:
        return user_message(error) or f"TRACEBACK {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return None


# Those make a run long; these are checked elsewhere, or used by nothing in a run.
LEFT_OUT = ("budget.images", "trainer.max_steps", "data.root", "source.restorer", "run.", "trust", "logger.wandb")


def with_effect() -> Iterator[tuple[list[str], str, Any]]:
    """For every key of `train` that accepts some of the values: the huge one, or else the first."""
    kept: dict[str, tuple[list[str], Any]] = {}
    for overrides, key, value in accepted("train", [], Counter()):
        if value == max(filter(None, VALUES[:3])) or key not in kept:
            kept[key] = (overrides, value)
    for key, (overrides, value) in kept.items():
        if not key.startswith(LEFT_OUT):
            # The options of these groups would need images, or make another network.
            yield [word for word in overrides if not word.startswith(("data=", "backbone=", "source=post"))], key, value


@pytest.mark.slow
def test_every_accepted_value_trains_or_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two steps, a validation and the evaluation with values that the first checks accept."""
    monkeypatch.chdir(tmp_path)
    without_account(monkeypatch, tmp_path)
    outcome: Counter[str] = Counter()
    wrong: list[Any] = []
    for overrides, key, value in with_effect():
        tiny = [word for word in TINY if not (word.startswith("estimator.") and "estimator=identity" in overrides)]
        intervals = any(f"objective={name}" in overrides for name in ("trajectory", "mean_flow", "interval_splitting"))
        if not intervals and {"sampler=mean_flow", "sampler=consistency"} & set(overrides):
            overrides = [*(word for word in overrides if not word.startswith("objective=")), "objective=mean_flow"]
            intervals = True
        if intervals:
            tiny += ["backbone.two_times=true"]
            overrides = [word for word in overrides if not word.startswith("source=")]  # only one with noise fits
        one = "objective=regression" in overrides
        nfe = ["evaluation.nfe=[1]", "sampler.nfe=1"] if one else ["evaluation.nfe=[1,2]"]
        short = [f"folder={tmp_path / str(outcome.total())}", "trainer.max_steps=2", *nfe]
        with composed("train", *overrides, *tiny, *short) as config:
            if OmegaConf.select(config, key, default="absent") == "absent":
                outcome["left out"] += 1
                continue
            OmegaConf.update(config, key, value)
            said = attempt(functools.partial(train, config))
        print(f"{key}={value}: {said or 'trains'}", flush=True)
        outcome["trains" if said is None else "refused"] += 1
        name = key.rstrip(".0123456789").rpartition(".")[2]
        if said is not None and name not in said and "is not finite" not in said:
            wrong.append((key, value, said))
    print(dict(outcome))
    assert not wrong
