"""Parameters, operations and memory against counts by hand."""

import functools

import pytest
import torch
from torch import nn

from restoration.classifier import Classifier, Full, LinearProbe
from restoration.classifier.size import flops, memory
from restoration.training.optimizer import TimmOptimizer


class Small(Classifier):
    """A convolution of 3 to 4 channels, 3 x 3, its square, the mean over pixels, and a layer of 4 to 2."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Square(), nn.Flatten(), nn.Linear(4 * 64, 2))
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)


class Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.square()


def test_operations_by_hand():
    assert flops(Small(), 8) == 2 * 64 * 4 * 3 * 9 + 2 * 256 * 2


def test_memory_by_hand():
    """Backward needs the input and the output of the convolution, and the features; four bytes each."""
    made = Small()
    groups = Full().parameter_groups(made.model)
    count = 4 * 3 * 9 + 4 + 256 * 2 + 2
    needs = memory(made, groups, functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9), 8, batch_size=10)
    assert needs["weights"] == needs["gradients"] == needs["optimiser"] == 4 * count
    assert needs["activations"] == 4 * 10 * (3 * 64 + 4 * 64 + 4 * 64)


@pytest.mark.parametrize(("name", "states"), [("sgd", 1), ("lion", 1), ("adamw", 2), ("muon", 1)])
def test_the_optimisers_state_is_counted_without_a_step(name: str, states: int):
    made = Classifier("test_resnet", ["a", "b"])
    before = [value.clone() for value in made.state_dict().values()]
    groups = Full().parameter_groups(made.model)
    needs = memory(made, groups, TimmOptimizer(name, 0.1, options={"momentum": 0.9} if name == "sgd" else {}), 32, 8)
    assert needs["optimiser"] == pytest.approx(states * needs["gradients"], rel=0.02)  # vectors of Muon have two
    assert all(torch.equal(*pair) for pair in zip(before, made.state_dict().values(), strict=True))


def test_a_probe_keeps_almost_nothing():
    made, transfer = Classifier("test_resnet", ["a", "b"]), LinearProbe()
    whole = memory(made, Full().parameter_groups(made.model), TimmOptimizer("adamw", 0.1), 32, 8)
    transfer.prepare(made.model)
    probe = memory(made, transfer.parameter_groups(made.model), TimmOptimizer("adamw", 0.1), 32, 8)
    assert probe["weights"] == whole["weights"]
    assert all(50 * probe[name] < whole[name] for name in ("gradients", "optimiser", "activations"))
