"""Counted operations: a closed form, and no trace left in the module."""

from types import SimpleNamespace

import torch
from helpers import Plain, copy_of, differing, tiny_module
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.callbacks.throughput import Throughput, count_flops
from restoration.flow import Degraded
from restoration.objective import Objective, Regression, SquaredError
from restoration.restorer import Restorer
from restoration.sampler import Euler

SIZE = 16


class Holder(nn.Module):
    """What `count_flops` reads of a training module."""

    def __init__(self, restorer: Restorer, objective: Objective) -> None:
        super().__init__()
        self.restorer, self.objective = restorer, objective

    def terms(self, part: Batch, keys: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.objective(self.restorer, part, keys)


def batch(images: int) -> Batch:
    clean = torch.rand(images, 3, SIZE, SIZE)
    mask = torch.zeros(images, 1, SIZE, SIZE, dtype=torch.bool)
    return Batch(clean, clean * 0.9, mask, torch.ones(images), torch.arange(images))


def test_one_convolution_has_its_closed_form():
    restorer = Restorer(Plain(), Degraded(0.0), Euler(1))
    holder = Holder(restorer, Objective({"regression": Regression(SquaredError())}))
    # Multiply and add, for 7 input and 3 output channels and 9 taps at every pixel. The input needs no gradient, so
    # backward is one product of the same size, for the weights.
    forward = 2 * 7 * 3 * 9 * SIZE**2
    for images in (2, 5, 8):
        assert count_flops(holder, batch(images)) == images * 2 * forward


def test_counting_leaves_no_trace():
    """Neither gradients nor moved batch statistics, and the module trains afterwards."""
    module = tiny_module("random").train()
    before = copy_of(module)
    assert any(name.endswith("running_mean") for name in before)
    assert count_flops(module, batch(4)) > 0
    assert not differing(before, module.state_dict())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training and module.restorer.backbone.training


def test_operations_are_counted_again_when_parameters_are_unfrozen():
    module, monitor = tiny_module("random").train(), Throughput()
    monitor.available_flops = 10**12
    encoder = list(module.restorer.backbone.encoder.parameters())
    counts = []
    for trains in (False, False, True):
        for parameter in encoder:
            parameter.requires_grad_(trains)
        monitor.on_train_batch_start(SimpleNamespace(), module, batch(4), 0)
        counts.append(module.flops_per_batch)
    assert counts[0] == counts[1] < counts[2]
