"""A training that ends well: finished, stopped early, or interrupted with a way to continue."""

import logging
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from restoration.data.datamodule import RestorationDataModule
from restoration.picture import is_out_of_memory
from restoration.run.memory import out_of_memory
from restoration.run.stopping import StopTogether, in_slurm_job
from restoration.run.sweep import repeated
from restoration.training.module import TrainingModule
from restoration.trust import named

log = logging.getLogger(__name__)

# Packages whose code a checkpoint of this project may name without `trust=`.
_LIBRARIES = ("restoration", "torch", "lightning")


def fit(trainer: Trainer, module: TrainingModule, data: RestorationDataModule, checkpoint: Path | None) -> None:
    """Trains to the end. The first Ctrl-C ends the training as SIGTERM does, after the current step.

    Raises:
        KeyboardInterrupt, SIGTERMException: stopped; `last.ckpt` is written if there was a step.
        UserError: out of memory.
    """
    stopped: list[int] = []

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one does not wait
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            raise KeyboardInterrupt  # Lightning has not begun
        stopped.append(number)
        signal.raise_signal(signal.SIGTERM)

    together = StopTogether()
    if trainer.world_size > 1 or in_slurm_job():
        trainer.callbacks.insert(0, together)  # type: ignore[attr-defined]
    handled = trainer.world_size == 1 and threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGINT, stop) if handled else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    except SIGTERMException:
        if stopped or together.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SIGTERMException(together.number) from None
    except SystemExit as ended:  # what Lightning makes of KeyboardInterrupt
        raise (KeyboardInterrupt if isinstance(ended.__context__, KeyboardInterrupt) else ended) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, trainer, module, data) from None
    finally:
        if handled:
            signal.signal(signal.SIGINT, former)
    if trainer.received_sigterm or together.number:  # in the last step
        raise KeyboardInterrupt if stopped or together.number == signal.SIGINT else SIGTERMException(together.number)
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            log.info(
                "stopped early at step %s of %s: %s did not improve in %s validations; callbacks.early_stopping=null "
                "resume=auto continues",
                *(trainer.global_step, trainer.max_steps, callback.monitor, callback.wait_count),
            )


def continuation(config: DictConfig) -> str:
    """Arguments that continue the run; the config comes from its checkpoint, if there is one."""
    hydra = HydraConfig.get()
    if not (Path(config.folder) / "checkpoints" / "last.ckpt").is_file():
        return repeated(config.name)
    folder = [word for word in hydra.overrides.hydra if word.startswith("hydra.run.dir=")]
    own = sorted({name.partition(".")[0] for name in named(OmegaConf.to_container(config))} - {*_LIBRARIES})
    folder += [f"trust={own[0]}" if len(own) == 1 else f"trust=[{','.join(own)}]"] if own else []
    choice = f"experiment={hydra.runtime.choices['experiment']}"
    return shlex.join([choice, *folder, f"name={config.name}", "resume=auto"])
