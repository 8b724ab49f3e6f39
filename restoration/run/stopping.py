"""Stopping a run that has several processes, or that Slurm will start again."""

import logging
import os
import signal
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


def in_slurm_job() -> bool:
    """Whether this is a job of `hydra/launcher=slurm`."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


class StopTogether(Callback):
    """Ends all ranks after the same batch when one of them gets SIGTERM, Ctrl-C, or submitit's SIGUSR2.

    Lightning's handler starts a collective operation at once, in the middle of whatever the ranks are doing; submitit's
    ends the process at once.

    Attributes:
        number: of the signal; 0 before.
    """

    def __init__(self) -> None:
        self.number = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # When training ends, the trainer restores the handlers of before.
        for number in (signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR2] if in_slurm_job() else [])):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.number = self.number or number
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait

    def _agree(self, trainer: Trainer, *_: Any) -> None:
        number = torch.tensor(self.number, device=trainer.strategy.root_device)
        self.number = int(trainer.strategy.reduce(number, reduce_op="max"))  # type: ignore[arg-type]
        if self.number:
            trainer._signal_connector.received_sigterm = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._agree(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._agree(trainer)


def leave_to_slurm(number: int) -> None:
    """Ends a stopped Slurm job so that it is queued again: by submitit before a time limit, else by Slurm.

    A preempted job waits for its end here. One that ends by itself within the grace time counts as failed.
    """
    log.warning("stopped; it continues if Slurm queues it again")
    if number == signal.SIGUSR2:
        signal.raise_signal(number)  # on the first rank, submitit queues the job again and exits
    while True:
        signal.pause()
