"""Every evaluation counts, also the last ones of a strongly warped grid, where 1 − t is below float32's resolution.

Version 0.1 computed x̂ → velocity → x̂ with a least value of 1 − t: with the warp below, the last of 16 evaluations
and the last 11 of 100 had no effect.
"""

import pytest
import torch
from torch import Tensor

from restoration.estimator import Estimate
from restoration.flow import CleanPrediction
from restoration.sampler import Euler, Exponential, Heun, Midpoint, Sampler

WARP = (1.498, 4.262)
SOLVERS = [Euler, Midpoint, Heun, Exponential]


class Run:
    """One trajectory in float32, of a network whose output changes at every evaluation, and by 1 more at a chosen one.

    The initial estimate is 0 and the residual std 1, so x̂ is the network's output.

    Attributes:
        result: x_1.
        states: x_t at each evaluation.
        output: of the last evaluation.
    """

    def __init__(self, sampler: Sampler, nfe: int, changed: int | None = None) -> None:
        states: list[Tensor] = []
        self.states = states
        self.output = torch.zeros(())

        class Recorded(CleanPrediction):
            def clean(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
                states.append(x_t)
                return super().clean(x_t, t, r)

        def network(x_in: Tensor, t: Tensor, r: Tensor | None) -> Tensor:
            number = len(states) - 1
            self.output = torch.sin(torch.tensor(float(number))) + (number == changed)
            return self.output.expand_as(x_in)

        zero, one = torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 4, 4)
        field = Recorded(network, Estimate(zero, one, 0 * one), zero, one)
        self.result = sampler(field, field.start(torch.arange(2)), nfe)
        assert len(states) == nfe


@pytest.mark.parametrize("nfe", [1, 2, 16, 100, 1000])
@pytest.mark.parametrize("warp", [(1.0, 1.0), WARP], ids=str)
def test_eulers_result_is_the_last_predicted_clean_image(nfe, warp):
    run = Run(Euler(warp=warp), nfe)
    torch.testing.assert_close(run.result, run.output.expand_as(run.result), atol=1e-6, rtol=0)


@pytest.mark.parametrize("nfe", [16, 100])
def test_every_evaluation_of_eulers_moves_the_state_by_its_share_of_the_time_left(nfe):
    sampler = Euler(warp=WARP)
    grid, plain = sampler.time_grid(nfe), Run(sampler, nfe)
    after = [*plain.states[1:], plain.result]
    for number in range(nfe):
        run = Run(sampler, nfe, changed=number)
        change = [*run.states[1:], run.result][number] - after[number]
        share = (grid[number + 1] - grid[number]) / (1 - grid[number])
        torch.testing.assert_close(change, torch.full_like(change, share), atol=1e-6, rtol=1e-3)
    # The last one decides the result.
    assert share == 1


@pytest.mark.parametrize("nfe", [16, 100])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_every_evaluation_changes_the_state_after_it(solver, nfe):
    sampler = solver(warp=WARP)
    plain = Run(sampler, nfe)
    after = [*plain.states[1:], plain.result]
    for number in range(nfe):
        run = Run(sampler, nfe, changed=number)
        change = ([*run.states[1:], run.result][number] - after[number]).abs().min()
        # Short first steps move the state little; the last steps move it by a large share of what is left.
        assert change > (0.5 if number == nfe - 1 else 0.1 if number > 0.8 * nfe else 1e-6), number


@pytest.mark.parametrize("nfe", [16, 100])
def test_the_exponential_methods_last_evaluation_has_the_weight_of_its_formula(nfe):
    """Its last step extrapolates x̂ in time, so the weight is a little above 1, in float32 as in exact arithmetic."""
    sampler = Exponential(warp=WARP)
    *_, first, before, last, end = sampler.time_grid(nfe)
    # A change of 1 in the last x̂ alone: slope 1/(t − before), bend slope/(t − first), and a = 1 − t.
    a, slope = end - last, 1 / (last - before)
    bend = slope / (last - first)
    weight = 1 + a * (slope + bend * (last - before)) + a * a * bend
    change = Run(sampler, nfe, nfe - 1).result - Run(sampler, nfe).result
    torch.testing.assert_close(change, torch.full_like(change, weight), atol=1e-5, rtol=0)
    assert 1 < weight < 1.2
