"""Callbacks: stages, averaging, metrics, images and checkpoints around the training steps."""

from restoration.callbacks.best_checkpoint import BestCheckpoint
from restoration.callbacks.ema import EMA
from restoration.callbacks.filling import FillingAlarms
from restoration.callbacks.guards import FiniteLoss, FiniteValidation
from restoration.callbacks.image_grid import ImageGrid
from restoration.callbacks.image_quality import ImageQuality
from restoration.callbacks.last_checkpoint import LastCheckpoint
from restoration.callbacks.plateau import Plateau
from restoration.callbacks.progress import StepBar
from restoration.callbacks.snapshots import Snapshots
from restoration.callbacks.staged_unfreezing import StagedUnfreezing
from restoration.callbacks.throughput import DataWait, Throughput

__all__ = [
    "EMA",
    "BestCheckpoint",
    "DataWait",
    "FillingAlarms",
    "FiniteLoss",
    "FiniteValidation",
    "ImageGrid",
    "ImageQuality",
    "LastCheckpoint",
    "Plateau",
    "Snapshots",
    "StagedUnfreezing",
    "StepBar",
    "Throughput",
]
