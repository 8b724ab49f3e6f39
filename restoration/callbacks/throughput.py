"""Images per second and MFU by Lightning's monitor, and the share of the time that training waits for data."""

import functools
import logging
import time
from typing import Annotated, Any

import torch
from lightning.fabric.utilities.throughput import measure_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ThroughputMonitor

from restoration.batch import Batch
from restoration.errors import Count, NotNegative, Range, whole_number

log = logging.getLogger(__name__)


class Throughput(ThroughputMonitor):
    """Lightning's `ThroughputMonitor` for batches of images, in training.

    Logs `train/device/samples_per_sec`, which is images per second, and on known GPUs `train/device/mfu`. On a GPU the
    floating-point operations of a step are counted at its start and whenever parameters are unfrozen.

    Args:
        window_size: steps that the figures are means over.

    Raises:
        UserError: window_size below 2.
    """

    def __init__(self, window_size: Annotated[int, Range(2)] = 50) -> None:
        whole_number("callbacks.throughput.window_size", window_size, 2)
        super().__init__(batch_size_fn=len, window_size=window_size)
        self._trained = 0

    def _compute(self, trainer: Trainer, iter_num: int | None = None) -> None:
        # Lightning logs validation too, with the number of a validation batch as the step.
        if trainer.training:
            super()._compute(trainer, iter_num)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.available_flops is None:
            return
        trained = sum(parameter.requires_grad for parameter in pl_module.parameters())
        if trained != self._trained:
            self._trained = trained
            pl_module.flops_per_batch = count_flops(pl_module, batch)


def count_flops(pl_module: Any, batch: Batch) -> int:
    """Floating-point operations of forward and backward on a batch, counted on its first two images."""
    part = batch.first(2)
    pl_module.eval()  # batch statistics must not move
    with torch.compiler.set_stance("force_eager"):
        loss = functools.partial(pl_module.terms, part, part.index)
        counted = measure_flops(pl_module, lambda: loss()[0], torch.Tensor.sum)
    pl_module.zero_grad(set_to_none=True)
    pl_module.train()
    return counted * len(batch) // len(part)


class DataWait(Callback):
    """Logs `data_share` and, on a CUDA GPU, the peak memory.

    `data_share` is the share of the training time between the end of one step and the start of the next: reading,
    moving and corrupting the batch. On a CUDA GPU the stream's own clock is read, so work hidden behind running
    kernels does not count. Validation and checkpoint writing are excluded. Put it last in the list of callbacks:
    what callbacks behind it do at the end of a step counts as waiting.

    Args:
        every_n_steps: the figures are means over so many steps.
        bottleneck: share from which a warning, given once, says that data loading limits the speed.

    Raises:
        UserError: every_n_steps below 1.
    """

    def __init__(self, every_n_steps: Count = 50, bottleneck: NotNegative = 0.3) -> None:
        self.every_n_steps = whole_number("callbacks.data_wait.every_n_steps", every_n_steps, 1)
        self.bottleneck = bottleneck
        self._warned = False
        self._clear()
        self._forget()

    def _clear(self) -> None:
        """Starts a new mean."""
        self._steps = 0
        self._seconds = self._waited = 0.0
        self._gaps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def _forget(self) -> None:
        """The time since the last step was not training."""
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
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        # A step whose wait was not timed is left out.
        if self._counts:
            self._seconds += now - self._started
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
        figures = {"data_share": share}
        if pl_module.device.type == "cuda":
            figures["gpu_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
        if share > self.bottleneck and not self._warned:
            self._warned = True
            advice = (
                "keep the images on the GPU with data.device=cuda"
                if pl_module.device.type == "cuda"
                else "use a simpler corruption, or stop other programs on this CPU"
            )
            log.warning("data loading limits the speed: it takes %.0f %% of the time; %s", 100 * share, advice)


def _event(pl_module: LightningModule) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(pl_module.device))
    return event
