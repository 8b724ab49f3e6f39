"""Metrics of classifiers against hand-computed values."""

import math

import pytest
import torch
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.metrics.recognition import BINS, auroc, recognise, recognition_metrics
from restoration.report.confusion import confusion_picture

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
        self.classes, self.place = list("abcdef"), nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return PROBABILITIES.log()[(images[:, 0, 0, 0] * 4).round().long()]


def test_a_classifier_is_asked_about_the_clean_images():
    batches = []
    for rows in (torch.tensor([0, 1, 2]), torch.tensor([3])):
        clean = (rows / 4)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
        mask = torch.zeros(len(rows), 1, 8, 8, dtype=torch.bool)
        batches.append(Batch(clean, torch.zeros_like(clean), mask, torch.zeros(len(rows)), rows, LABELS[rows]))
    found, confusions = recognise(Table(), batches)  # type: ignore[arg-type]
    assert (found["n"], found["top1"], found["top5"]) == (4, 0.5, 0.75)
    assert found["nll"] == pytest.approx(-math.log(0.75 * 0.06 * 0.02 * 0.85) / 4, rel=1e-5)
    assert {(row, column) for row, column in confusions.nonzero().tolist()} == {(0, 0), (4, 0), (5, 0), (2, 2)}
    # Of class 0, the three others are below 0.75: 1. Of 2: 1. Of 4, 0.06 ties with 0.06 and is above 0.05 twice: 5/6.
    # Of 5, 0.02 is below 0.05 and 0.04, and above 0.01: 1/3.
    assert auroc(PROBABILITIES, LABELS) == pytest.approx((1 + 1 + 5 / 6 + 1 / 3) / 4, abs=1e-6)
    assert found["auroc"] == pytest.approx((1 + 1 + 5 / 6 + 1 / 3) / 4, abs=1 / 24 + 1e-6)  # rounding unties the two
    assert found["top1_ci"][0] < 0.5 < found["top1_ci"][1]


def drawn(count: int = 400, classes: int = 7) -> tuple[Tensor, Tensor]:
    """Probabilities and labels of which about half are right."""
    labels = torch.arange(count) % classes
    logits = torch.randn(count, classes, generator=torch.Generator().manual_seed(3)).double()
    logits[torch.arange(count), labels] += 1.5
    return logits.softmax(1), labels


def test_all_agree_with_scikit_learn():
    oracle = pytest.importorskip("sklearn.metrics")
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    probabilities, labels = drawn()
    metrics = recognition_metrics(7)
    metrics.update(probabilities, labels)
    found = {name: float(value) for name, value in metrics.compute().items()}
    answers = probabilities.argmax(1)
    assert 0.3 < found["top1"] < 0.9
    assert found["top1"] == pytest.approx(oracle.accuracy_score(labels, answers))
    assert found["top5"] == pytest.approx(oracle.top_k_accuracy_score(labels, probabilities, k=5))
    assert found["f1"] == pytest.approx(oracle.f1_score(labels, answers, average="macro"))
    area = oracle.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert auroc(probabilities, labels) == pytest.approx(area)
    # The expected calibration error is the curve's distance from the diagonal, weighted by the images of each bin.
    sure, right = probabilities.max(1).values.numpy(), (answers == labels).numpy()
    accuracy, confidence = calibration_curve(right, sure, n_bins=BINS, strategy="uniform")
    counts = torch.histc(torch.from_numpy(sure), BINS, 0, 1).numpy()
    expected = (abs(accuracy - confidence) * counts[counts > 0]).sum() / len(labels)
    assert found["ece"] == pytest.approx(expected, abs=1e-6)


def test_classes_that_do_not_occur_leave_the_area_as_it_is():
    probabilities, labels = drawn()
    few = labels < 3
    probabilities, labels = probabilities[few], labels[few]
    each = [auroc(torch.stack([1 - p, p], 1), (labels == c).long()) for c, p in enumerate(probabilities.T[:3])]
    assert auroc(probabilities, labels) == pytest.approx(sum(each) / 3)
    assert math.isnan(auroc(probabilities[:1], labels[:1]))


@pytest.mark.parametrize("classes", [4, 60])
def test_the_picture_of_confusions_shows_shares_of_each_class(classes: int):
    counts = torch.eye(classes, dtype=torch.int64) * 5
    counts[0, 1] = 15
    picture = confusion_picture(counts, [f"class {number}" for number in range(classes)])
    assert picture.mode == "RGB" and min(picture.size) > 300
    right = confusion_picture(torch.eye(classes, dtype=torch.int64), [f"class {number}" for number in range(classes)])
    assert picture.tobytes() != right.tobytes() or picture.size != right.size
