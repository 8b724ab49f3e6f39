"""Trainings by several processes of this machine, as the nodes of a cluster would start them."""

import socket
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from helpers import TINY
from processes import start

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


def start_nodes(folder: Path, command: Sequence[str], nodes: int = 2) -> list[BaseProcess]:
    """One process for each node, with the variables that a cluster sets and `output_<node>.txt`."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    over = ["trainer=ddp", "trainer.devices=1", f"trainer.num_nodes={nodes}"]
    return [
        start(folder, [*command, *over], shared | {"NODE_RANK": str(node)}, f"output_{node}.txt")
        for node in range(nodes)
    ]


def said(folder: Path) -> str:
    return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(folder.glob("output*.txt")))
