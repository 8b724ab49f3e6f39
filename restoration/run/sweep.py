"""The table that a multirun ends with."""

from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from restoration.errors import UserError
from restoration.report.folder import find
from restoration.report.table import show

__all__ = ["SweepTable"]


class SweepTable(Callback):
    """Prints the finished runs of a sweep side by side.

    It grows with every job, failed ones too: where one has failed, Hydra skips what would come at the sweep's end.
    """

    def __init__(self) -> None:
        self.folders: set[str] = set()  # one for each experiment

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        try:
            self.folders.add(config.hydra.sweep.dir)
            show(find(sorted(self.folders)))
        except UserError as error:  # no job has come as far as its evaluation
            print(error)
