"""What a run was made from: `provenance.json` in its folder, and whether an evaluation repeats its figures."""

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restoration.arguments import leaves
from restoration.data.store import Store
from restoration.report.folder import Report

FILE = "provenance.json"

_PACKAGE = Path(__file__).parents[1]
_SECRET = re.compile(r"(?i)^([^=]*(?:key|token|secret|password)[^=]*=).+")
# Of a split. Larger ones are hashed at evenly spaced images: 0.3 s at most, if they are in memory.
_HASHED = 1 << 28
_TIMES = ("seconds", "images_per_second")


def fingerprint(store: Store) -> str:
    """BLAKE2b of a split: number and indices of its images, and their pixels (a sample of them above 256 MiB)."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(store.images.shape).encode() + np.ascontiguousarray(store.index).tobytes())
    if store.label is not None:
        digest.update(np.ascontiguousarray(store.label).tobytes())
    stride = -(-store.images.nbytes // _HASHED) or 1
    for start in range(0, len(store), 1024 * stride):
        digest.update(np.ascontiguousarray(store.images[start : start + 1024 * stride : stride]).data)
    return f"{len(store)} images {digest.hexdigest()}"


def state(splits: Mapping[str, Store], device: torch.device) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What decides the figures of a run beside its config: code, packages, data and device.

    Returns:
        Plain containers, and the files of changed code that they name.
    """
    git, files = _code()
    facts = {
        "git": git,
        "python": platform.python_version(),
        "packages": dict(sorted((part.metadata["Name"], part.version) for part in distributions())),
        "data": {name: fingerprint(store) for name, store in splits.items()},
        "device": _name(device),
    }
    return facts, files


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{device.type} {platform.machine()} {capability} {torch.get_num_threads()} threads"


def record(folder: Path, config: dict[str, Any], splits: Mapping[str, Store], device: torch.device, count: int) -> None:
    """Adds this start or resume to the run's `provenance.json`. Code that is not committed is written to a patch."""
    facts, files = state(splits, device)
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(_SECRET.sub(r"\1…", word) for word in sys.orig_argv),
        "seed": config["seed"],
        "devices": count,
        **facts,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    part = folder / f"{FILE}.part"
    part.write_text(json.dumps([*sessions(folder), session], indent=2) + "\n")
    os.replace(part, folder / FILE)


def sessions(folder: Path) -> list[dict[str, Any]]:
    """The starts of a run, oldest first; empty if they are not known."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _code() -> tuple[dict[str, Any], dict[str, bytes]]:
    """The commits of this project and of the working directory, where these are git checkouts, and their changes."""
    places = {"working_directory": Path.cwd()}
    if _git(_PACKAGE, "ls-files", "--error-unmatch", "errors.py") is not None:
        places = {"restoration": _PACKAGE, **places}
    found: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    tops: set[bytes] = set()
    for name, place in places.items():
        top, commit = (_git(place, "rev-parse", *asked) for asked in (["--show-toplevel"], ["HEAD"]))
        if top is None or commit is None or top in tops:
            continue
        tops.add(top)
        root = Path(os.fsdecode(top.rstrip(b"\n")))
        changes = _git(root, "diff", "--no-ext-diff", "--no-textconv", "HEAD") or b""
        file = f"changes_{hashlib.blake2b(changes, digest_size=4).hexdigest()}.patch" if changes else None
        files |= {file: changes} if file else {}
        new = _git(root, "ls-files", "--others", "--exclude-standard", "*.py", "*.yaml") or b""
        found[name] = {"commit": commit.decode().strip(), "changes": file}
        found[name]["not_in_git"] = new.decode(errors="replace").splitlines()
    return found, files


def _git(place: Path, *arguments: str) -> bytes | None:
    """What git prints; None without git or a repository."""
    command = ["git", "-c", "core.fsmonitor=", "-c", "core.quotePath=false", "-C", str(place), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=20, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if ended.returncode else ended.stdout


def repeated(report: Report, folder: Path, splits: Mapping[str, Store], device: torch.device) -> list[str]:
    """Whether an evaluation repeats the figures of its run: a line for each difference, and a last one that says it.

    Args:
        report: of an evaluation with the settings of the run.
        folder: of the run.
        splits: the data now.
        device: of the evaluation.
    """
    then, now = (dict(_figures(metrics)) for metrics in (Report.load(folder).metrics, report.metrics))
    figures = _differences(then, json.loads(json.dumps(now)))
    if known := sessions(folder):
        facts = {key: known[-1].get(key) for key in ("git", "python", "packages", "data", "device")}
        current = state(splits, device)[0]
        if "working_directory" not in current["git"]:  # it may be evaluated from anywhere
            (facts["git"] or {}).pop("working_directory", None)
        (facts["data"] or {}).pop("extra", None)  # images of the training alone
        changed = _differences(dict(leaves(facts)), dict(leaves(current)))
    else:
        changed = [f"{folder} has no {FILE}: what the run was made from is not known"]
    said = f"{len(figures)} of {len(then)} figures differ from" if figures else f"all {len(then)} figures repeat"
    return [*changed, *figures, f"{said} those of {folder / 'metrics.json'}{' to the digit' if not figures else ''}"]


def _figures(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of all figures but times."""
    if isinstance(node, Mapping | list):
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, value in items:
            if key not in _TIMES and f"{path}{key}" != "run":
                yield from _figures(value, f"{path}{key}.")
    else:
        yield path[:-1], node


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each known value that is another one now, or missing. As text, so that NaN equals NaN."""
    return [
        f"{key}: {value} then, {now.get(key, 'missing')} now"
        for key, value in then.items()
        if str(value) != str(now.get(key, "missing"))
    ]
