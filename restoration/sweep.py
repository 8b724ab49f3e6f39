"""The table that a multirun ends with."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from restoration.compare import find, show
from restoration.errors import UserError

__all__ = ["SweepTable"]


class SweepTable(Callback):
    """Prints the finished runs of a sweep side by side."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            show(find([config.hydra.sweep.dir]))
        except UserError as error:  # no job came as far as its evaluation
            print(str(error))
