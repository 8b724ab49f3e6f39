"""Solvers on equations with a known solution: order, cost, and the result of a single evaluation."""

import math

import numpy as np
import pytest
import torch
from helpers import Velocity
from torch import Tensor

from restoration.errors import UserError
from restoration.flow import column
from restoration.sampler import Euler, Exponential, Heun, Midpoint

SOLVERS = [Euler, Midpoint, Heun, Exponential]
every = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)


@Velocity
def nonlinear(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = −x²·cos 2t, solved by x_0 / (1 + x_0·sin(2t) / 2)."""
    return -x.square() * torch.cos(2 * column(t))


@Velocity
def rotation(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = i·3t²·x on pairs of channels: the state rotates by the angle t³."""
    return 3 * column(t).square() * torch.stack([-x[:, 1], x[:, 0]], dim=1)


x_0 = torch.linspace(0.5, 1.5, 8, dtype=torch.float64).view(2, 1, 2, 2)
pairs = torch.tensor([[1.0, 0.0], [0.6, -0.8]], dtype=torch.float64).view(2, 2, 1, 1)
rotated = torch.stack(
    [pairs[:, 0] * math.cos(1) - pairs[:, 1] * math.sin(1), pairs[:, 0] * math.sin(1) + pairs[:, 1] * math.cos(1)],
    dim=1,
)
EQUATIONS = {
    "nonlinear": (nonlinear, x_0, x_0 / (1 + x_0 * math.sin(2) / 2)),
    "rotation": (rotation, pairs, rotated),
}


def assert_order(solver, slope: float, margin: float):
    """The multistep method has order three after two steps of lower order; short first steps hide these."""
    assert solver.order - margin < slope < (3 if solver is Exponential else solver.order) + margin


@every
@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_error_falls_with_the_declared_order(solver, equation):
    field, start, end = EQUATIONS[equation]
    nfes = [32, 64, 128, 256]
    errors = [(solver()(field, start, nfe) - end).square().mean().sqrt().item() for nfe in nfes]
    slope = -np.polyfit(np.log(nfes), np.log(errors), 1)[0]
    assert_order(solver, slope, 0.2)


@every
@pytest.mark.parametrize("warp", [(1.6, 1.0), (1.0, 1.5), (1.4, 1.3)], ids=str)
def test_the_order_holds_on_a_warped_grid(solver, warp):
    nfes = [64, 128, 256, 512]
    errors = [(solver(warp=warp)(nonlinear, x_0, nfe) - EQUATIONS["nonlinear"][2]).abs().max().item() for nfe in nfes]
    slope = -np.polyfit(np.log(nfes), np.log(errors), 1)[0]
    assert_order(solver, slope, 0.25)


def test_the_time_grid_is_kumaraswamys_distribution_function():
    assert Euler().time_grid(4) == [0, 0.25, 0.5, 0.75, 1]
    assert Euler(warp=(2, 1)).time_grid(4) == pytest.approx([0, 1 / 16, 1 / 4, 9 / 16, 1])
    assert Euler(warp=(1, 2)).time_grid(4) == pytest.approx([0, 7 / 16, 3 / 4, 15 / 16, 1])


@pytest.mark.parametrize("warp", [(0, 1), (1, -2), (1,)], ids=str)
def test_an_invalid_warp_is_refused(warp):
    with pytest.raises(UserError, match="sampler.warp"):
        Euler(warp=warp)


def test_a_warp_that_leaves_steps_without_length_is_refused():
    with pytest.raises(UserError, match=r"sampler.warp=\[1.0, 9.0\]: some of 100 steps have no length"):
        Exponential(warp=(1, 9))(nonlinear, x_0, 100)


@every
@pytest.mark.parametrize("nfe", range(1, 10))
def test_exactly_nfe_evaluations_are_spent(solver, nfe):
    calls = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return torch.ones_like(x)

    x_1 = solver()(Velocity(velocity), x_0, nfe)
    assert len(calls) == nfe
    assert all(t.shape == (2,) and t.dtype == x_0.dtype and t[0] == t[1] for t in calls)
    # The steps lead from 0 to 1, and the field is never evaluated at the end itself.
    torch.testing.assert_close(x_1, x_0 + 1)
    times = [t[0].item() for t in calls]
    assert times[0] == 0 and times == sorted(times) and times[-1] < 1


@every
def test_one_evaluation_is_one_euler_step(solver):
    for field, start, _ in EQUATIONS.values():
        assert torch.equal(solver()(field, start, 1), start + field.velocity(start, torch.zeros(2)))


@pytest.mark.parametrize("end", [0.9, 1.0])
def test_a_clean_image_that_moves_as_a_parabola_is_integrated_exactly_after_two_steps(end: float):
    """x̂ = α + β·w + γ·w² with w = 1 − t: x = w·(x_0 + α·(1/w − 1) − β·ln w + γ·(1 − w))."""
    alpha, beta, gamma = torch.randn(3, 2, 1, 2, 2, dtype=torch.float64)

    @Velocity
    def field(x: Tensor, t: Tensor) -> Tensor:
        w = 1 - column(t)
        return (alpha + beta * w + gamma * w**2 - x) / w

    def exact(t: float) -> Tensor:
        w = 1 - t
        return w * x_0 + alpha * (1 - w) - beta * (w * math.log(w) if w else 0) + gamma * w * (1 - w)

    solver = Exponential()
    solver.reset()
    for t, t_next in ((0.0, 0.2), (0.2, 0.55)):
        solver.step(field, exact(t), t, t_next)
    torch.testing.assert_close(solver.step(field, exact(0.55), 0.55, end), exact(end))


@pytest.mark.parametrize("solver", [Midpoint, Heun], ids=["Midpoint", "Heun"])
def test_an_odd_count_ends_with_an_euler_step(solver):
    def slope(x: Tensor, t: float) -> Tensor:
        return nonlinear.velocity(x, torch.full((2,), t))

    first = slope(x_0, 0.0)
    if solver is Midpoint:
        half = x_0 + 0.5 * slope(x_0 + 0.25 * first, 0.25)
    else:
        half = x_0 + 0.25 * (first + slope(x_0 + 0.5 * first, 0.5))
    torch.testing.assert_close(solver()(nonlinear, x_0, 3), half + 0.5 * slope(half, 0.5))


@every
@pytest.mark.parametrize("nfe", [4, 6, 8])
def test_a_straight_path_is_followed_exactly(solver, nfe):
    """The velocity (x_1 − x) / (1 − t) of a known end, which is undefined at t = 1."""
    end = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    x_1 = solver()(Velocity(lambda x, t: (end - x) / (1 - column(t))), x_0, nfe)
    torch.testing.assert_close(x_1, end)


@every
@pytest.mark.parametrize("nfe", [0, -1, 1001])
def test_counts_out_of_range_are_refused(solver, nfe):
    with pytest.raises(UserError, match=f"nfe={nfe}"):
        solver()(nonlinear, x_0, nfe)
    with pytest.raises(UserError, match=f"nfe={nfe}"):
        solver(nfe)(nonlinear, x_0)


@every
def test_the_default_count_is_the_solvers_own_and_the_call_overrides_it(solver):
    made = solver(nfe=5)
    assert torch.equal(made(nonlinear, x_0), made(nonlinear, x_0, 5))
    assert not torch.equal(made(nonlinear, x_0), made(nonlinear, x_0, 6))


@every
def test_a_second_trajectory_forgets_the_first(solver):
    made = solver()
    first = made(nonlinear, x_0, 6)
    made(rotation, pairs, 4)
    assert torch.equal(made(nonlinear, x_0, 6), first)


@every
def test_float32_stays_float32(solver):
    assert solver()(nonlinear, x_0.float(), 3).dtype == torch.float32


@every
@pytest.mark.parametrize("nfe", [1, 32, 33])
def test_a_trajectory_has_the_points_of_the_grid_and_ends_at_the_result(solver, nfe):
    sampler = solver(warp=(1.4, 1.3))
    points = list(sampler.trajectory(nonlinear, x_0, nfe))
    assert [t for t, _ in points] == sampler.time_grid(sum(divmod(nfe, sampler.evaluations)))
    assert torch.equal(points[0][1], x_0) and torch.equal(points[-1][1], sampler(nonlinear, x_0, nfe))
    # Each point is on the exact trajectory, and none is overwritten by a later one.
    for t, x in points:
        exact = x_0 / (1 + x_0 * math.sin(2 * t) / 2)
        torch.testing.assert_close(x, exact, atol=2 / nfe, rtol=0)
