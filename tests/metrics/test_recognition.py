"""Metrics of classifiers against hand-computed values."""

import pytest
import torch
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.metrics.recognition import recognise, recognition_metrics

# Four images, six classes. The likeliest is right for the first and the last; the second's label comes fifth, the
# third's last.
PROBABILITIES = torch.tensor(
    [
        [0.75, 0.05, 0.05, 0.05, 0.05, 0.05],
        [0.30, 0.25, 0.20, 0.15, 0.06, 0.04],
        [0.35, 0.25, 0.20, 0.12, 0.06, 0.02],
        [0.02, 0.03, 0.85, 0.04, 0.05, 0.01],
    ]
)
LABELS = torch.tensor([0, 4, 5, 2])


def test_accuracy_by_hand():
    metrics = recognition_metrics(6, "val/")
    metrics.update(PROBABILITIES[:1], LABELS[:1])
    metrics.update(PROBABILITIES[1:], LABELS[1:])
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["val/top1"] == 0.5 and found["val/top5"] == 0.75
    # F1: class 0 has one right of three said, 2·1 / (2·1 + 2) = 1/2; class 2 has 1; classes 4 and 5 have 0; classes 1
    # and 3 do not occur.
    assert found["val/f1"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)


def test_calibration_by_hand():
    """Of 15 bins each confidence has its own here but for 0.30 and 0.35, [4/15, 5/15] and [5/15, 6/15]."""
    metrics = recognition_metrics(6)
    metrics.update(PROBABILITIES, LABELS)
    expected = (abs(0.75 - 1) + abs(0.30 - 0) + abs(0.35 - 0) + abs(0.85 - 1)) / 4
    assert float(metrics.compute()["ece"]) == pytest.approx(expected, abs=1e-6)


def test_two_classes_have_no_top5():
    assert set(recognition_metrics(2)) == {"top1", "f1", "ece"}


class Table(nn.Module):
    """A classifier whose logits stand in the first pixel's place of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.mean = list("abcdef"), torch.zeros(1)

    def forward(self, images: Tensor) -> Tensor:
        return PROBABILITIES.log()[(images[:, 0, 0, 0] * 4).round().long()]


def test_a_classifier_is_asked_about_the_clean_images():
    batches = []
    for rows in (torch.tensor([0, 1, 2]), torch.tensor([3])):
        clean = (rows / 4)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
        mask = torch.zeros(len(rows), 1, 8, 8, dtype=torch.bool)
        batches.append(Batch(clean, torch.zeros_like(clean), mask, torch.zeros(len(rows)), rows, LABELS[rows]))
    found = recognise(Table(), batches)  # type: ignore[arg-type]
    assert (found["n"], found["top1"], found["top5"]) == (4, 0.5, 0.75)
    assert found["top1_ci"][0] < 0.5 < found["top1_ci"][1]
