"""What the network's answer stands for: the right answers give the clean image."""

from dataclasses import replace

import pytest
import torch
from helpers import blank_context

from restoration.flow import Clean, Velocity, clean_to_velocity, interpolate


@pytest.fixture
def drawn():
    """x_0, x_1, x_t, t, and a context whose base, scale and source are not the clean image's."""
    y, x_1, noise = (torch.randn(3, 3, 4, 4, dtype=torch.float64) for _ in range(3))
    scale = torch.rand(3, 1, 4, 4, dtype=torch.float64) + 0.1
    context = replace(blank_context(y, (0.3 * y, scale)), base=0.5 * y, scale=scale)
    t = torch.tensor([0.0, 0.4, 0.9], dtype=torch.float64)
    x_0 = context.mean + context.deviation * noise
    return x_0, x_1, interpolate(x_0, x_1, t), t, context


def test_the_clean_image_is_a_change_of_the_base(drawn):
    _, x_1, x_t, t, context = drawn
    clean = Clean()(lambda told, t, context: (x_1 - context.base) / context.scale, x_t, t, context)
    torch.testing.assert_close(clean, x_1)


def test_the_velocity_less_what_is_known_of_it(drawn):
    x_0, x_1, x_t, t, context = drawn

    def network(centred, t, context):
        # What it sees is what the base and the source's mean leave over.
        rest = interpolate(x_0 - context.mean, x_1 - context.base, t)
        torch.testing.assert_close(centred, rest)
        return x_1 - context.base - (x_0 - context.mean)

    clean = Velocity()(network, x_t, t, context)
    torch.testing.assert_close(clean, x_1)
    torch.testing.assert_close(clean_to_velocity(clean, x_t, t), x_1 - x_0)


def test_a_silent_network_leaves_what_is_known(drawn):
    *_, x_t, t, context = drawn
    silent = lambda told, t, context: torch.zeros_like(told)  # noqa: E731
    torch.testing.assert_close(Clean()(silent, x_t, t, context), context.base)
    # From the source's mean, straight to the base.
    start = Velocity()(silent, context.mean, torch.zeros_like(t), context)
    torch.testing.assert_close(start, context.base)
