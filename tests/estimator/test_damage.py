"""The network of the blind estimator: where it starts from, how far it looks, and what its error is read from."""

import math

import pytest
import torch
from torch import nn

from restoration.estimator.blind import DamageNetwork, equal_neighbours


@pytest.fixture
def network() -> DamageNetwork:
    """With random weights also in the layers that are zero-initialised."""
    network = DamageNetwork(16).eval()
    for layer in (network.hole[1], network.error[2]):
        nn.init.normal_(layer.weight, std=0.3)
    return network


def test_the_estimate_of_the_hole_starts_from_exact_black_without_certainty():
    degraded = torch.rand(2, 3, 32, 32) * 1.5 - 0.6
    degraded[..., 5:12, 9:20] = -1
    probability = torch.sigmoid(DamageNetwork(16)(degraded)[0])
    hole = (degraded == -1).all(dim=1, keepdim=True)
    assert 0.7 < probability[hole].min() and probability[hole].max() < 0.75 and probability[~hole].max() < 0.06
    # Four grey levels are not black.
    almost = torch.sigmoid(DamageNetwork(16)(torch.full((2, 3, 32, 32), -1 + 8 / 255))[0])
    assert almost.max() < 0.06


def test_equal_neighbours_are_counted():
    levels = torch.full((1, 3, 6, 7), 200.0)
    levels[0, 1, 3, 3] += 1
    share = 8 * equal_neighbours(levels)[0, 0]
    expected = torch.full((6, 7), 8.0)
    expected[[0, -1]], expected[:, [0, -1]] = 5.0, 5.0
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = 3.0
    expected[2:5, 2:5] += math.exp(-1) - 1
    expected[3, 3] = 8 * math.exp(-1)
    torch.testing.assert_close(share, expected)


def test_the_error_starts_from_a_typical_one():
    network, hole = DamageNetwork(16).eval(), torch.zeros(2, 1, 32, 32)
    _, features = network(torch.rand(2, 3, 32, 32))
    assert torch.equal(network.log_error(features, hole), torch.full((2,), -3.0))


@pytest.mark.parametrize("size", [(17, 30), (3, 2), (1, 1), (64, 48)])
def test_any_size_is_estimated(network: DamageNetwork, size: tuple[int, int]):
    logit, features = network(torch.rand(1, 3, *size))
    assert logit.shape == (1, 1, *size) and logit.isfinite().all()
    assert network.log_error(features, torch.zeros(1, 1, *size)).isfinite().all()


def test_the_hole_is_told_by_its_surroundings(network: DamageNetwork):
    """A change reaches over the whole of a 64-pixel image."""
    degraded = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(degraded)[0][0, 0, 32, 32].backward()
    assert (
        degraded.grad is not None and degraded.grad[..., 0, :].abs().max() > 0 < degraded.grad[..., -1, :].abs().max()
    )


def test_the_error_is_read_from_the_known_region(network: DamageNetwork):
    _, features = network(torch.rand(1, 3, 32, 32))
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 8:24, 8:24] = 1
    changed = [level.clone() for level in features]
    for halvings, level in enumerate(changed):
        inside = slice(8 >> halvings, 24 >> halvings)
        level[..., inside, inside] += 5
    assert torch.equal(network.log_error(features, hole), network.log_error(changed, hole))
    assert not torch.equal(network.log_error(features, hole * 0), network.log_error(changed, hole * 0))


def test_the_error_is_learned_from_its_target():
    """A few steps tell two amounts of noise apart, and no noise from both."""
    torch.manual_seed(0)
    network = DamageNetwork(16)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    std = torch.tensor([0.0, 0.05, 0.4]).repeat(4)
    target = (std.square() + (1 / 255) ** 2).log() / 2

    def estimate() -> torch.Tensor:
        noisy = torch.linspace(-0.5, 0.5, 32).expand(12, 3, 32, 32) + std.view(-1, 1, 1, 1) * torch.randn(12, 3, 32, 32)
        return network.log_error(network(noisy)[1], torch.zeros(12, 1, 32, 32))

    before = (estimate() - target).square().mean()
    for _ in range(40):
        optimizer.zero_grad()
        (estimate() - target).square().mean().backward()
        optimizer.step()
    assert before > 1 and (estimate() - target).abs().mean() < math.log(2)
