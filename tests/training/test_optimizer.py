"""Optimisers by name: one step of each against its formula."""

import pytest
import torch
from timm.optim import Muon
from torch import Tensor, nn

from restoration.errors import UserError
from restoration.training.optimizer import TimmOptimizer


def stepped(name: str, value: Tensor, gradient: Tensor, steps: int = 1, decay: float = 0.0, **options) -> Tensor:
    parameter = nn.Parameter(value.clone())
    group = {"params": [parameter], "name": "weights", "start_images": 0, "end_images": None}
    optimizer = TimmOptimizer(name, 0.1, decay, options)([group])
    for _ in range(steps):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


VALUE, GRADIENT = torch.randn(2, 8, 4, 3, 3, generator=torch.Generator().manual_seed(2)).double()


def test_sgd_is_nesterovs():
    """After a step v = g, and the weight moves by lr (g + m v); the second has v = (1 + m) g."""
    moved = GRADIENT * (1 + 0.9) + GRADIENT * (1 + 0.9 * 1.9)
    torch.testing.assert_close(stepped("sgd", VALUE, GRADIENT, 2, momentum=0.9), VALUE - 0.1 * moved)


def test_adamw_decays_apart_from_its_step():
    """The first step of Adam is the sign of the gradient, up to ε."""
    expected = VALUE * (1 - 0.1 * 0.5) - 0.1 * GRADIENT / (GRADIENT.abs() + 1e-8)
    torch.testing.assert_close(stepped("adamw", VALUE, GRADIENT, decay=0.5), expected)


def test_lion_steps_by_signs():
    expected = VALUE * (1 - 0.1 * 0.5) - 0.1 * GRADIENT.sign()
    torch.testing.assert_close(stepped("lion", VALUE, GRADIENT, decay=0.5, betas=[0.9, 0.99]), expected)


def test_muon_takes_a_convolution_as_a_flat_matrix():
    """Its step is that of the matrix (8, 36), whose singular values it brings near 1."""
    kernel = stepped("muon", VALUE, GRADIENT)
    matrix = stepped("muon", VALUE.flatten(1), GRADIENT.flatten(1))
    torch.testing.assert_close(kernel.flatten(1), matrix)
    scales = torch.linalg.svdvals(VALUE.flatten(1) - matrix)
    assert float(scales.max() / scales.min()) < 2 < float(torch.linalg.cond(GRADIENT.flatten(1)))
    with pytest.raises(ValueError, match="2D"):
        torch.optim.Muon([nn.Parameter(VALUE)])


def test_muon_gives_vectors_adamw_steps():
    vector, gradient = VALUE.flatten()[:5], GRADIENT.flatten()[:5]
    found = stepped("muon", vector, gradient, fallback_lr_scale=0.5)
    torch.testing.assert_close(found, vector - 0.05 * gradient.sign(), atol=1e-6, rtol=1e-6)
    assert isinstance(TimmOptimizer("muon", 0.1)([{"params": [nn.Parameter(vector)]}]), Muon)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamwww", {}, "optimizer.name=adamwww is none of timm's"),
        ("lion", {"wieght": 1}, "optimizer.name=lion with these options: .*wieght"),
        ("adamw", {"betas": [2.0, 0.9]}, "optimizer.name=adamw with these options: Invalid beta"),
        ("fusedlamb", {}, "optimizer.name=fusedlamb with these options: "),
    ],
)
def test_what_it_cannot_make_is_refused_before_the_training(name: str, options: dict, message: str):
    with pytest.raises(UserError, match=message):
        TimmOptimizer(name, 0.1, options=options)
