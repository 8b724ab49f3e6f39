"""How well a classifier knows images: accuracy, macro F1 and calibration, by torchmetrics."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from restoration.batch import Batch
from restoration.classifier import Classifier
from restoration.errors import UserError
from restoration.metrics.bootstrap import bootstrap_mean

TOP = 5
BINS = 15  # of the calibration error (Guo et al. 2017)


def recognition_metrics(classes: int, prefix: str = "") -> MetricCollection:
    """Metrics of probabilities (B, C) and labels (B,).

    `top1`, `top5` (with more than five classes): share of images whose class is the likeliest, or among five. `f1`:
    mean over classes. `ece`: expected calibration error, the mean distance of confidence and accuracy.
    """
    metrics: dict[str, Any] = {
        "top1": MulticlassAccuracy(classes, average="micro"),
        "f1": MulticlassF1Score(classes, average="macro"),
        "ece": MulticlassCalibrationError(classes, n_bins=BINS, norm="l1"),
    }
    if classes > TOP:
        metrics["top5"] = MulticlassAccuracy(classes, top_k=TOP, average="micro")
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)


@torch.no_grad()
def recognised(classifier: Classifier, images: Tensor, batch: Batch) -> Tensor:
    """Which of the images (B, 3, H, W) in [0, 1] the classifier gives the batch's label: float32 (B,) of 0 and 1."""
    return (classifier(images.float().clamp(0, 1)).argmax(dim=1) == batch.label).float()


@torch.no_grad()
def recognise(classifier: Classifier, batches: Iterable[Batch], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """The metrics of a classifier on the clean images, with a 95 % bootstrap interval of `top1`.

    Args:
        classifier: in eval mode, on the device of the batches.
        batches: with labels.
        dtype: of the network's multiplications; None is float32.

    Raises:
        UserError: a probability is not finite.
    """
    start, right = time.perf_counter(), []
    metrics = recognition_metrics(len(classifier.classes)).to(classifier.mean.device)
    for batch in batches:
        assert batch.label is not None
        with torch.autocast(batch.clean.device.type, dtype, enabled=dtype is not None):
            logits = classifier(batch.clean)
        if not logits.isfinite().all():
            raise UserError("the classifier returned NaN or infinity: its weights are broken; train again")
        metrics.update(logits.softmax(dim=1), batch.label)
        right.append((logits.argmax(dim=1) == batch.label).float().cpu())
    correct = torch.cat(right).numpy()
    figures = {name: float(value) for name, value in metrics.compute().items()}
    interval = list(bootstrap_mean(correct)[1:])
    return {"n": len(correct), **figures, "top1_ci": interval, "seconds": time.perf_counter() - start}
