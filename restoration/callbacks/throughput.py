"""Images per second, and whether the model or the data sets the pace."""

import logging
import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from restoration.batch import Batch

__all__ = ["Throughput"]

log = logging.getLogger(__name__)


class Throughput(Callback):
    """Logs `images_per_s` (also in the progress bar), `data_share` and, on a CUDA GPU, memory, use and temperature.

    `data_share` is the part of the training time between the end of one step and the start of the next: reading,
    moving and corrupting the batch. On a CUDA GPU the stream's own clock is read, so what hides behind running
    kernels does not count. Time in validation and in writing checkpoints is left out of everything. Put it last in the
    list of callbacks: what those behind it do at the end of a step counts as waiting.

    Args:
        every_n_steps: the figures are means over so many steps.
        bottleneck: share of the time from which the log says, once, that the data sets the pace.
    """

    def __init__(self, every_n_steps: int = 50, bottleneck: float = 0.3) -> None:
        if every_n_steps < 1:
            raise ValueError(f"Throughput's every_n_steps is {every_n_steps}; give a number from 1 up")
        self.every_n_steps = every_n_steps
        self.bottleneck = bottleneck
        self._said = False
        self._clear()
        self._forget()

    def _clear(self) -> None:
        """Starts a new mean."""
        self._images = self._steps = 0
        self._seconds = self._waited = 0.0
        self._gaps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def _forget(self) -> None:
        """Whatever happened since the last step is not training."""
        self._ended: float | None = None
        self._end_event: torch.cuda.Event | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._forget()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._forget()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        self._forget()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self._started = time.perf_counter()
        self._counts = self._ended is not None
        if self._ended is not None:
            self._seconds += self._started - self._ended
            self._waited += self._started - self._ended
        if self._end_event is not None:
            self._gaps.append((self._end_event, _event(pl_module)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        # A step whose data was not timed is left out altogether: it would flatter both figures.
        if self._counts:
            self._seconds += now - self._started
            self._images += len(batch)
            self._steps += 1
        if self._steps == self.every_n_steps:
            self._report(trainer, pl_module)
            self._clear()
            now = time.perf_counter()
        self._ended = now
        self._end_event = _event(pl_module) if pl_module.device.type == "cuda" else None

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._gaps:
            self._gaps[-1][1].synchronize()
            self._waited = sum(end.elapsed_time(start) for end, start in self._gaps) / 1000.0
        share = min(1.0, self._waited / self._seconds)
        speed = self._images * trainer.world_size / self._seconds
        pl_module.log("images_per_s", speed, prog_bar=True, logger=False)
        figures = {"images_per_s": speed, "data_share": share, **_gpu_figures(pl_module.device)}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
        if share > self.bottleneck and not self._said:
            self._said = True
            advice = (
                "keep the images on the GPU with data.device=cuda"
                if pl_module.device.type == "cuda"
                else "a simpler corruption or fewer other programs on this CPU would help"
            )
            log.warning("the data, not the model, sets the pace: it takes %.0f %% of the time; %s", 100 * share, advice)


def _event(pl_module: LightningModule) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(pl_module.device))
    return event


def _gpu_figures(device: torch.device) -> dict[str, float]:
    """Peak memory, use and temperature of a CUDA GPU; the last two need NVIDIA's nvidia-ml-py."""
    if device.type != "cuda":
        return {}
    figures = {"gpu_memory_gib": torch.cuda.max_memory_allocated(device) / 2**30}
    try:
        figures["gpu_use_percent"] = float(torch.cuda.utilization(device))
        figures["gpu_celsius"] = float(torch.cuda.temperature(device))
    except (ModuleNotFoundError, RuntimeError):  # no nvidia-ml-py, or a GPU that does not tell
        pass
    return figures
