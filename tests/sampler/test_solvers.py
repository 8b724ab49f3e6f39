"""Solvers on equations with a known solution: order, cost, and what one evaluation gives."""

import math

import numpy as np
import pytest
import torch

from restoration.errors import UserError
from restoration.sampler import Euler, Exponential, Heun, Midpoint

SOLVERS = [Euler, Midpoint, Heun, Exponential]
every = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)


def column(t: torch.Tensor) -> torch.Tensor:
    return t[:, None, None, None]


def nonlinear(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """dx/dt = −x²·cos 2t, solved by x_0 / (1 + x_0·sin(2t) / 2)."""
    return -x.square() * torch.cos(2 * column(t))


def rotation(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """dx/dt = i·3t²·x on pairs of channels: the state turns by the angle t³."""
    return 3 * column(t).square() * torch.stack([-x[:, 1], x[:, 0]], dim=1)


x_0 = torch.linspace(0.5, 1.5, 8, dtype=torch.float64).view(2, 1, 2, 2)
pairs = torch.tensor([[1.0, 0.0], [0.6, -0.8]], dtype=torch.float64).view(2, 2, 1, 1)
turned = torch.stack(
    [pairs[:, 0] * math.cos(1) - pairs[:, 1] * math.sin(1), pairs[:, 0] * math.sin(1) + pairs[:, 1] * math.cos(1)],
    dim=1,
)
EQUATIONS = {
    "nonlinear": (nonlinear, x_0, x_0 / (1 + x_0 * math.sin(2) / 2)),
    "rotation": (rotation, pairs, turned),
}


def assert_order(solver, slope: float, margin: float):
    """Steps of order three after two of less come out in between: the first is short on a grid that begins so."""
    assert solver.order - margin < slope < (3 if solver is Exponential else solver.order) + margin


@every
@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_error_falls_with_the_declared_order(solver, equation):
    velocity, start, end = EQUATIONS[equation]
    nfes = [32, 64, 128, 256]
    errors = [(solver()(velocity, start, nfe) - end).square().mean().sqrt().item() for nfe in nfes]
    slope = -np.polyfit(np.log(nfes), np.log(errors), 1)[0]
    assert_order(solver, slope, 0.2)


@every
@pytest.mark.parametrize("warp", [(1.6, 1.0), (1.0, 1.5), (1.4, 1.3)], ids=str)
def test_the_order_holds_on_a_warped_grid(solver, warp):
    nfes = [64, 128, 256, 512]
    errors = [(solver(warp=warp)(nonlinear, x_0, nfe) - EQUATIONS["nonlinear"][2]).abs().max().item() for nfe in nfes]
    slope = -np.polyfit(np.log(nfes), np.log(errors), 1)[0]
    assert_order(solver, slope, 0.25)


def test_the_grid_is_kumaraswamys():
    assert Euler().grid(4) == [0, 0.25, 0.5, 0.75, 1]
    assert Euler(warp=(2, 1)).grid(4) == pytest.approx([0, 1 / 16, 1 / 4, 9 / 16, 1])
    assert Euler(warp=(1, 2)).grid(4) == pytest.approx([0, 7 / 16, 3 / 4, 15 / 16, 1])


@pytest.mark.parametrize("warp", [(0, 1), (1, -2), (1,)], ids=str)
def test_a_warp_that_is_none_is_refused(warp):
    with pytest.raises(ValueError, match="sampler.warp"):
        Euler(warp=warp)


def test_a_warp_that_leaves_steps_no_length_is_refused():
    with pytest.raises(UserError, match=r"sampler.warp=\[1.0, 9.0\] leaves some of 100 steps no length"):
        Exponential(warp=(1, 9))(nonlinear, x_0, 100)


@every
@pytest.mark.parametrize("nfe", range(1, 10))
def test_exactly_nfe_evaluations_are_spent(solver, nfe):
    calls = []

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(t)
        return torch.ones_like(x)

    x_1 = solver()(velocity, x_0, nfe)
    assert len(calls) == nfe
    assert all(t.shape == (2,) and t.dtype == x_0.dtype and t[0] == t[1] for t in calls)
    # However the steps are made up, they reach from 0 to 1, and never look at the end itself.
    torch.testing.assert_close(x_1, x_0 + 1)
    times = [t[0].item() for t in calls]
    assert times[0] == 0 and times == sorted(times) and times[-1] < 1


@every
def test_one_evaluation_is_one_euler_step(solver):
    for velocity, start, _ in EQUATIONS.values():
        assert torch.equal(solver()(velocity, start, 1), start + velocity(start, torch.zeros(2)))


@pytest.mark.parametrize("end", [0.9, 1.0])
def test_a_clean_image_that_moves_as_a_parabola_is_met_exactly_after_two_steps(end: float):
    """x̂ = α + β·w + γ·w² with w = 1 − t: x = w·(x_0 + α·(1/w − 1) − β·ln w + γ·(1 − w))."""
    alpha, beta, gamma = torch.randn(3, 2, 1, 2, 2, dtype=torch.float64)

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        w = 1 - column(t)
        return (alpha + beta * w + gamma * w**2 - x) / w

    def exact(t: float) -> torch.Tensor:
        w = 1 - t
        return w * x_0 + alpha * (1 - w) - beta * (w * math.log(w) if w else 0) + gamma * w * (1 - w)

    solver = Exponential()
    solver.reset()
    for t, t_next in ((0.0, 0.2), (0.2, 0.55)):
        solver.step(velocity, exact(t), t, t_next)
    torch.testing.assert_close(solver.step(velocity, exact(0.55), 0.55, end), exact(end))


@pytest.mark.parametrize("solver", [Midpoint, Heun], ids=["Midpoint", "Heun"])
def test_an_odd_count_ends_with_an_euler_step(solver):
    def slope(x: torch.Tensor, t: float) -> torch.Tensor:
        return nonlinear(x, torch.full((2,), t))

    first = slope(x_0, 0.0)
    if solver is Midpoint:
        half = x_0 + 0.5 * slope(x_0 + 0.25 * first, 0.25)
    else:
        half = x_0 + 0.25 * (first + slope(x_0 + 0.5 * first, 0.5))
    torch.testing.assert_close(solver()(nonlinear, x_0, 3), half + 0.5 * slope(half, 0.5))


@every
@pytest.mark.parametrize("nfe", [4, 6, 8])
def test_a_straight_path_is_followed_exactly_and_does_not_ask_at_its_end(solver, nfe):
    """The velocity (x_1 − x) / (1 − t) of a known end: the last evaluation decides where the path arrives."""
    end = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    x_1 = solver()(lambda x, t: (end - x) / (1 - column(t)), x_0, nfe)
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
def test_what_is_nearly_intact_keeps_its_first_velocity(solver):
    """dx/dt = −x. Kept to a share of 1 − ¼, the solution is x_0·(4·exp(−t/4) − 3); kept wholly, a straight line."""

    def decay(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -x

    def end(scale: float) -> torch.Tensor:
        return solver(keep=0.2)(decay, x_0, 256, torch.full_like(x_0[:, :1], scale))

    torch.testing.assert_close(end(0.0), torch.zeros_like(x_0), atol=1e-12, rtol=0)
    torch.testing.assert_close(end(0.1), x_0 * (4 * math.exp(-0.25) - 3), atol=1e-3, rtol=0)
    for free in (end(0.2), end(5.0), solver(keep=0)(decay, x_0, 256, torch.zeros_like(x_0[:, :1]))):
        assert torch.equal(free, solver(keep=0.2)(decay, x_0, 256))
    with pytest.raises(ValueError, match="sampler.keep=-1"):
        solver(keep=-1)
