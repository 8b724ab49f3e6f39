"""How well a classifier knows images: accuracy, macro F1, AUROC and calibration, by torchmetrics."""

import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.functional.classification import multiclass_auroc, multiclass_confusion_matrix

from restoration.batch import Batch
from restoration.classifier import Classifier, Ensemble
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
def recognised(classifier: Classifier | Ensemble, images: Tensor, batch: Batch) -> Tensor:
    """Which of the images (B, 3, H, W) in [0, 1] the classifier gives the batch's label: float32 (B,) of 0 and 1."""
    return (classifier(images.float().clamp(0, 1)).argmax(dim=1) == batch.label).float()


def auroc(probabilities: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur of the area under the ROC curve, each against the rest; NaN with one class.

    Args:
        probabilities: (N, C).
        labels: int64 (N,).
    """
    present = labels.unique()
    if len(present) < 2:
        return float("nan")
    # torchmetrics gives a class without images 0, and would average it in.
    with warnings.catch_warnings(action="ignore"):
        areas: Tensor = multiclass_auroc(probabilities, labels, probabilities.shape[1], average=None)  # type: ignore[assignment]
    return float(areas[present].mean())


@torch.no_grad()
def recognise(
    classifier: Classifier | Ensemble, batches: Iterable[Batch], dtype: torch.dtype | None = None
) -> tuple[dict[str, Any], Tensor]:
    """The metrics of a classifier, or of several as one, on the clean images, and its confusions.

    Args:
        classifier: in eval mode, on the device of the batches.
        batches: with labels.
        dtype: of the network's multiplications; None is float32.

    Returns:
        `recognition_metrics` with a 95 % bootstrap interval of `top1`, `auroc`, and `nll`, the mean of −log p of the
        label; and numbers of images by class (rows) and answer (columns), int64 (C, C).

    Raises:
        UserError: a probability is not finite.
    """
    start = time.perf_counter()
    answers, truths = [], []
    metrics = recognition_metrics(len(classifier.classes)).to(next(classifier.parameters()).device)
    for batch in batches:
        assert batch.label is not None
        with torch.autocast(batch.clean.device.type, dtype, enabled=dtype is not None):
            logits = classifier(batch.clean)
        if not logits.isfinite().all():
            raise UserError("the classifier returned NaN or infinity: its weights are broken; train again")
        answers.append(logits.float().log_softmax(dim=1).cpu())
        truths.append(batch.label.cpu())
        metrics.update(answers[-1].exp().to(logits.device), batch.label)
    logs, labels = torch.cat(answers), torch.cat(truths)
    figures = {name: float(value) for name, value in metrics.compute().items()}
    figures |= {"auroc": auroc(logs.exp(), labels), "nll": float(F.nll_loss(logs, labels))}
    interval = list(bootstrap_mean((logs.argmax(dim=1) == labels).float().numpy())[1:])
    confusions = multiclass_confusion_matrix(logs.argmax(dim=1), labels, logs.shape[1])
    return {"n": len(labels), **figures, "top1_ci": interval, "seconds": time.perf_counter() - start}, confusions
