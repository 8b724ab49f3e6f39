"""Losses against closed forms."""

import math

import pytest
import torch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional as F

from restoration.classifier import Focal

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
LABELS = torch.tensor([0, 3, 2, 2, 1, 0])


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_of_two_classes_is_its_closed_form(gamma: float):
    """With logits (z, 0) the probability of the first class is 1 / (1 + exp(−z))."""
    for z in (-2.0, 0.3, 4.0):
        p = 1 / (1 + math.exp(-z))
        for label, right in ((0, p), (1, 1 - p)):
            loss = Focal(gamma)(torch.tensor([[z, 0.0]], dtype=torch.float64), torch.tensor([label]))
            assert float(loss) == pytest.approx(-((1 - right) ** gamma) * math.log(right), rel=1e-9)


def test_focal_without_focus_is_cross_entropy():
    torch.testing.assert_close(Focal(0.0)(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))


def test_shares_of_one_class_are_labels():
    shares = F.one_hot(LABELS, 4).double()
    torch.testing.assert_close(Focal(2.0)(LOGITS, shares), Focal(2.0)(LOGITS, LABELS))
    mixed = 0.3 * shares + 0.7 * shares.roll(1, 0)
    parts = 0.3 * Focal(2.0)(LOGITS, LABELS) + 0.7 * Focal(2.0)(LOGITS, LABELS.roll(1))
    torch.testing.assert_close(Focal(2.0)(LOGITS, mixed), parts)


def test_label_smoothing_is_its_closed_form():
    """The target is 1 − s + s / C for the label and s / C for the others."""
    smooth = 0.1
    logs = LOGITS.log_softmax(1)
    expected = -((1 - smooth) * logs[torch.arange(6), LABELS] + smooth / 4 * logs.sum(1)).mean()
    torch.testing.assert_close(torch.nn.CrossEntropyLoss(label_smoothing=smooth)(LOGITS, LABELS), expected)


def test_soft_targets_are_those_of_timm_and_of_labels():
    """torch's cross entropy takes the shares of mixtures as they are."""
    shares = F.one_hot(LABELS, 4).double()
    torch.testing.assert_close(F.cross_entropy(LOGITS, shares), F.cross_entropy(LOGITS, LABELS))
    mixed = 0.3 * shares + 0.7 * shares.roll(1, 0)
    by_hand = -(mixed * LOGITS.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(F.cross_entropy(LOGITS, mixed), by_hand)
    torch.testing.assert_close(SoftTargetCrossEntropy()(LOGITS, mixed), by_hand)


def test_binary_cross_entropy_of_each_class_is_its_closed_form():
    shares = F.one_hot(LABELS, 4).double()
    p = LOGITS.sigmoid()
    expected = -(shares * p.log() + (1 - shares) * (1 - p).log()).mean()
    for targets in (LABELS, shares):
        torch.testing.assert_close(BinaryCrossEntropy(smoothing=0.0)(LOGITS, targets), expected, atol=1e-6, rtol=1e-5)
