"""The mean of probabilities, and classifiers that do not fit together."""

import pytest
import torch

from restoration.batch import Batch
from restoration.classifier import Classifier, Ensemble
from restoration.errors import UserError
from restoration.metrics.recognition import recognise


def classifier(*classes: str) -> Classifier:
    made = Classifier("test_resnet", classes).eval()
    made.model.fc.weight.data.normal_(0, 5)  # answers that differ from image to image
    return made


def batches() -> list[Batch]:
    images, nothing = torch.rand(24, 3, 32, 32), torch.zeros(24)
    mask = torch.zeros(24, 1, 32, 32, dtype=torch.bool)
    return [Batch(images, images, mask, nothing, torch.arange(24), torch.arange(24) % 3)]


@torch.no_grad()
def test_the_probabilities_are_the_mean_over_the_members():
    members, images = [classifier(*"abc") for _ in range(3)], torch.rand(5, 3, 32, 32)
    by_hand = sum(member(images).double().softmax(dim=1) for member in members) / 3
    answers = Ensemble(members)(images)
    torch.testing.assert_close(answers.exp().double(), by_hand, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(answers.softmax(dim=1).double(), by_hand, atol=1e-6, rtol=1e-5)  # they are logits
    assert float((by_hand - members[0](images).double().softmax(dim=1)).abs().max()) > 0.1


def test_one_checkpoint_twice_has_the_figures_of_one():
    one, data = classifier(*"abc"), batches()
    alone, confused = recognise(one, data)
    twice, again = recognise(Ensemble([one, one]), data)
    assert torch.equal(confused, again)
    for name in ("n", "top1", "f1", "ece", "auroc", "nll", "top1_ci"):
        assert twice[name] == pytest.approx(alone[name], abs=1e-6), name


def test_an_ensemble_is_no_worse_than_its_members_are_on_average():
    """Jensen: the mean of −log is at least the −log of the mean, for every image."""
    members, data = [classifier(*"abc") for _ in range(3)], batches()
    own = sum(recognise(member, data)[0]["nll"] for member in members) / 3
    assert recognise(Ensemble(members), data)[0]["nll"] < own


@pytest.mark.parametrize("other", ["abd", "acb", "ab"])
def test_other_classes_are_one_line(other: str):
    with pytest.raises(UserError, match=r"number 2 knows \d \(a, .*\), number 1 knows 3 \(a, b, c\); leave one out"):
        Ensemble([classifier(*"abc"), classifier(*other)])
