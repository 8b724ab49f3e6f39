"""`keep`: nearly intact pixels keep a share of the first evaluation's velocity."""

import math

import pytest
import torch
from helpers import Velocity
from torch import Tensor

from restoration.errors import UserError
from restoration.flow import column
from restoration.sampler import Euler, Exponential, Heun, Midpoint
from restoration.sampler.base import KeepFirst

SOLVERS = [Euler, Midpoint, Heun, Exponential]
every = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
decay = Velocity(lambda x, t: -x)
x_0 = torch.linspace(0.5, 1.5, 8, dtype=torch.float64).view(2, 1, 2, 2)


@every
def test_a_nearly_intact_pixel_keeps_its_first_velocity(solver):
    """dx/dt = −x. With a kept share of 1 − ¼ the solution is x_0·(4·exp(−t/4) − 3); fully kept, a straight line."""

    def end(residual_std: float) -> Tensor:
        return solver(keep=0.2)(decay, x_0, 256, torch.full_like(x_0[:, :1], residual_std))

    torch.testing.assert_close(end(0.0), torch.zeros_like(x_0), atol=1e-12, rtol=0)
    torch.testing.assert_close(end(0.1), x_0 * (4 * math.exp(-0.25) - 3), atol=1e-3, rtol=0)
    for free in (end(0.2), end(5.0), solver(keep=0)(decay, x_0, 256, torch.zeros_like(x_0[:, :1]))):
        assert torch.equal(free, solver(keep=0.2)(decay, x_0, 256))


@every
def test_each_pixel_has_a_share_of_its_own(solver):
    residual_std = torch.tensor([0.0, 0.05, 0.1, 1.0], dtype=torch.float64).view(1, 1, 2, 2).expand(2, 1, 2, 2)
    together = solver(keep=0.2)(decay, x_0, 7, residual_std)
    for row in range(2):
        for column_ in range(2):
            alone = solver(keep=0.2)(decay, x_0, 7, residual_std[..., row, column_, None, None].expand_as(residual_std))
            torch.testing.assert_close(together[..., row, column_], alone[..., row, column_])


@pytest.mark.parametrize("first", ["velocity", "clean"])
def test_the_velocity_and_the_clean_image_keep_the_same_share(first):
    """Both forms agree, whichever is evaluated first, and the first value is the field's own."""
    share = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    field = KeepFirst(decay, share)
    zero, t = torch.zeros(2, dtype=torch.float64), torch.tensor([0.3, 0.6], dtype=torch.float64)
    value = field.velocity(x_0, zero) if first == "velocity" else field.clean(x_0, zero) - x_0
    torch.testing.assert_close(value, -x_0)
    x = x_0 + 0.5
    velocity = (1 - share) * -x_0 + share * -x
    torch.testing.assert_close(field.velocity(x, t), velocity)
    torch.testing.assert_close(field.clean(x, t), x + column(1 - t) * velocity)


@every
def test_a_second_trajectory_forgets_the_first_velocity(solver):
    sampler, residual_std = solver(keep=0.2), torch.full_like(x_0[:, :1], 0.05)
    first = sampler(decay, x_0, 6, residual_std)
    sampler(decay, 3 * x_0, 6, residual_std)
    assert torch.equal(sampler(decay, x_0, 6, residual_std), first)


@every
def test_strips_of_rows_give_the_whole_images_result(solver, monkeypatch):
    x, residual_std = torch.randn(2, 3, 20, 8, dtype=torch.float64), torch.rand(2, 1, 20, 8, dtype=torch.float64) / 3
    for nfe in (1, 2, 5):
        monkeypatch.setattr("restoration.flow.tiling.ROWS", 256)
        whole = solver(keep=0.2)(decay, x, nfe, residual_std)
        monkeypatch.setattr("restoration.flow.tiling.ROWS", 3)
        torch.testing.assert_close(solver(keep=0.2)(decay, x, nfe, residual_std), whole, atol=1e-15, rtol=1e-14)


@every
def test_a_negative_keep_is_refused(solver):
    with pytest.raises(UserError, match="sampler.keep=-1"):
        solver(keep=-1)
