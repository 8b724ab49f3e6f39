"""What a classifier costs: parameters, operations, memory."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from restoration.classifier.model import Classifier
from restoration.classifier.transfer import Groups


def flops(classifier: Classifier, side: int) -> int:
    """Floating-point operations of one image of this side: two for a multiplication with its addition."""
    was = classifier.training
    images = torch.zeros(1, 3, side, side, device=classifier.mean.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier.eval()(images)
    classifier.train(was)
    return counter.get_total_flops()


def memory(
    classifier: Classifier,
    groups: Groups,
    optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
    side: int,
    batch_size: int,
) -> dict[str, int]:
    """Bytes of a training step in float32: weights, gradients, the optimiser's state, and what backward needs.

    Convolutions need some more for their own work. The state is 0 if the optimiser cannot tell it without values. The
    classifier does not change.
    """
    weights = sum(_bytes(value) for value in classifier.state_dict().values())
    trains = [parameter for parameters, _ in groups.values() for parameter in parameters]
    copies = [nn.Parameter(torch.zeros_like(parameter, device="meta")) for parameter in trains]
    for parameter in copies:
        parameter.grad = torch.zeros_like(parameter)
    made = optimizer([{"params": copies}])
    try:
        made.step()
    except Exception:  # an optimiser may look at values, and here are only shapes
        made.state.clear()
    state = sum(_bytes(value) for part in made.state.values() for value in part.values() if isinstance(value, Tensor))
    return {
        "weights": weights,
        "gradients": sum(map(_bytes, trains)),
        "optimiser": state,
        "activations": _saved(classifier, side) * batch_size // 2,
    }


def _saved(classifier: Classifier, side: int) -> int:
    """Bytes that are kept for the backward pass of two images, without the parameters."""
    own = copy.deepcopy(classifier).train()  # batch statistics move
    known = {value.untyped_storage().data_ptr() for value in own.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    images = torch.zeros(2, 3, side, side, device=classifier.mean.device)
    with saved_tensors_hooks(keep, lambda value: value):
        logits = own(images)
        total = sum(kept.values())  # while the graph lives, no storage is used twice
        del logits
    return total


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()
