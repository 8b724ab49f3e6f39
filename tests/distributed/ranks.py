"""Trainings by several processes of this machine, as the nodes of a cluster would start them."""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers import TINY, run_command

from restoration.train import main

RUN = Path("outputs/blur_erase/run")


def job(weights: Path, ranks: int, steps: int = 6) -> list[str]:
    """Two stages on a pretrained encoder, two epochs, in float32; eight images per step whatever the ranks.

    Without the estimator, whose batch statistics are those of a rank.
    """
    network = ["estimator=identity", *(argument for argument in TINY if not argument.startswith("estimator."))]
    return [
        *("experiment=blur_erase", *network, f"backbone.encoder.weights={weights}", "evaluation.nfe=[1,2]"),
        *(f"data.batch_size={8 // ranks}", "data.selection_images=11", f"trainer.max_steps={steps}"),
        *("trainer.val_check_interval=2", "callbacks.staged_unfreezing.share=0.5", "trainer.num_sanity_val_steps=0"),
    ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(folder: Path, command: Sequence[str], variables: dict[str, str]) -> int:
    """The train command in a process of its own, with its output in a file; the process id."""
    folder.mkdir(parents=True, exist_ok=True)
    if process := os.fork():
        return process
    status = 1
    try:
        os.chdir(folder)
        os.environ.update(variables)
        output = os.open(f"output_{variables.get('NODE_RANK', 0)}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)  # under pytest they are not descriptors 1 and 2
        status = run_command(main, *command)
    finally:
        os._exit(status)


def start_nodes(folder: Path, command: Sequence[str], nodes: int = 2) -> list[int]:
    """One process for each node, with the variables that a cluster sets; the process ids."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    over = ["trainer=ddp", "trainer.devices=1", f"trainer.num_nodes={nodes}"]
    return [start(folder, [*command, *over], shared | {"NODE_RANK": str(node)}) for node in range(nodes)]


def wait(processes: Sequence[int]) -> list[int]:
    """Their exit statuses; minus the signal's number for a killed one."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def said(folder: Path) -> str:
    return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(folder.glob("output_*.txt")))
