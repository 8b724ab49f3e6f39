"""Kills a two-stage run with SIGKILL at random moments, resumes it each time with resume=auto, and compares its end
with that of an uninterrupted run.

python tests/soak.py --kills 20
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from helpers import TINY, encoder_file, last, rows
from processes import start, wait
from torch import Tensor

from restoration.checkpoint_file import DamagedFileError, load

RUN = Path("outputs/blur_erase/run")


def arguments(weights: Path, steps: int) -> list[str]:
    return [
        *("experiment=blur_erase", *TINY, "evaluation.nfe=[1,2]", f"trainer.max_steps={steps}"),
        *("trainer.val_check_interval=25", "callbacks.staged_unfreezing.share=0.5"),
        *("callbacks.last.every_n_minutes=0.01", f"backbone.encoder.weights={weights}", "resume=auto"),
    ]


def digest(value: Any) -> str:
    """SHA-256 of a tree of tensors and plain values."""
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, dict):
            for name in sorted(part, key=str):
                found.update(repr(name).encode())
                add(part[name])
        elif isinstance(part, list | tuple):
            for item in part:
                add(item)
        else:
            found.update(part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())

    add(value)
    return found.hexdigest()


def end(folder: Path) -> dict[str, str]:
    """What the two runs must agree on."""
    state = last(folder)
    logged = {row["step"]: row["train/loss"] for row in rows(folder) if row["train/loss"]}
    facts = json.loads((folder / "metrics.json").read_text())["run"]
    return {
        "averaged weights": digest(state["state_dict"]),
        "raw weights": digest(state["current_model_state"]),
        "optimiser": digest(state["optimizer_states"]),
        "losses of all steps": digest(logged),
        "evaluation": digest([(folder / "per_image.csv").read_text(), facts["steps"], facts["images_seen"]]),
    }


def kept(folder: Path) -> str:
    """What a kill left."""
    found = []
    for name in ("last", "previous"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        if path.exists():
            try:
                found.append(f"{name}.ckpt of step {load(path)['global_step']}")
            except DamagedFileError:
                found.append(f"{name}.ckpt DAMAGED")
    if list((folder / "checkpoints").glob("*.part")):
        found.append("a file half written")
    return ", ".join(found) or "no checkpoint yet"


def soak(folder: Path, kills: int, steps: int, seed: int) -> bool:
    draw, command = random.Random(seed), arguments(encoder_file(folder), steps)
    began = time.monotonic()
    (status,) = wait(start(folder / "whole", command))
    seconds = time.monotonic() - began
    whole = folder / "whole" / RUN
    if status:
        print((folder / "whole" / "output.txt").read_text())
        return False
    print(f"the uninterrupted run: {steps} steps in {seconds:.0f} s")
    done, resumed, startup = 0, folder / "resumed" / RUN, 3.0
    while True:
        process = start(folder / "resumed", command)
        if done < kills:
            time.sleep(draw.uniform(0.2, startup + 2 * seconds / (kills + 4)))
            if process.is_alive():
                process.kill()
                wait(process)
                done += 1
                print(f"kill {done:2}: {kept(resumed)}", flush=True)
                continue
            break
        wait(process)
        break
    said = (folder / "resumed" / "output.txt").read_text()
    if not (resumed / "metrics.json").exists():
        print(said[-3000:])
        return False
    wait(start(folder / "resumed", command))
    tail = (folder / "resumed" / "output.txt").read_text()[len(said) :]
    print(f"started once more: {'this run is done' if 'this run is done' in tail else tail}")
    theirs, ours = end(whole), end(resumed)
    for name, value in theirs.items():
        print(f"{name}: {value[:16]} {'=' if ours[name] == value else 'DIFFERS FROM'} {ours[name][:16]}")
    print(f"{done} kills; {'equal' if ours == theirs else 'DIFFERENT'}")
    return ours == theirs and "this run is done" in tail


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not soak(Path(name), given.kills, given.steps, given.seed))
