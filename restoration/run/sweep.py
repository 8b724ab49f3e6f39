"""The table that a multirun ends with."""

from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from restoration.errors import UserError
from restoration.report.folder import find
from restoration.report.table import show


class SweepTable(Callback):
    """Prints the finished runs of a sweep side by side.

    After every job, because Hydra skips the end of a sweep in which a job has failed.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()  # one for each experiment

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        try:
            self.folders.add(config.hydra.sweep.dir)
            show(find(sorted(self.folders)))
        except UserError as error:  # no job has finished yet
            print(error)
