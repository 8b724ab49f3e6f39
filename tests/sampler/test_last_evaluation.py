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
    """A trajectory in float32 of nfe + 1 images, all with the same start.

    The network's output changes at every evaluation. For image k it is greater by 1 at evaluation k; the last image
    has no such change. The initial estimate is 0 and the residual std 1, so x̂ is the network's output.

    Attributes:
        result: x_1, (nfe + 1, 3, 2, 2).
        output: of the last evaluation, for the last image.
        effect: (nfe,), by how much the change at each evaluation moves the state after it.
    """

    def __init__(self, sampler: Sampler, nfe: int) -> None:
        states: list[Tensor] = []

        class Recorded(CleanPrediction):
            def clean(self, x_t: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
                states.append(x_t)
                return super().clean(x_t, t, r)

        def network(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
            number = len(states) - 1
            changed = (torch.arange(nfe + 1) == number).float()[:, None, None, None]
            return torch.sin(torch.tensor(float(number))) + changed.expand_as(x_in)

        zero, one = torch.zeros(nfe + 1, 3, 2, 2), torch.ones(nfe + 1, 1, 2, 2)
        field = Recorded(network, Estimate(zero, one, 0 * one), zero, one)
        self.result = sampler(field, field.start(torch.zeros(nfe + 1, dtype=torch.int64)), nfe)
        assert len(states) == nfe
        self.output = torch.sin(torch.tensor(nfe - 1.0))
        after = torch.stack([*states[1:], self.result])
        change = after - after[:, -1:]
        self.effect = torch.stack([change[k, k].mean() for k in range(nfe)])
        # The images are independent, and so is the state before the change.
        assert not any(change[k, k + 1 :].any() for k in range(nfe))


@pytest.mark.parametrize("nfe", [1, 2, 16, 100, 1000])
@pytest.mark.parametrize("warp", [(1.0, 1.0), WARP], ids=str)
def test_eulers_result_is_the_last_predicted_clean_image(nfe, warp):
    run = Run(Euler(warp=warp), nfe)
    expected = run.output.expand_as(run.result).clone()
    expected[nfe - 1] += 1
    torch.testing.assert_close(run.result, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("nfe", [16, 100])
def test_every_evaluation_of_eulers_moves_the_state_by_its_share_of_the_time_left(nfe):
    sampler = Euler(warp=WARP)
    grid = torch.tensor(sampler.time_grid(nfe), dtype=torch.float64)
    share = grid.diff() / (1 - grid[:-1])
    torch.testing.assert_close(Run(sampler, nfe).effect.double(), share, atol=1e-6, rtol=1e-3)
    # The last one decides the result.
    assert share[-1] == 1


@pytest.mark.parametrize("nfe", [16, 100])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.__name__)
def test_every_evaluation_changes_the_state_after_it(solver, nfe):
    effect = Run(solver(warp=WARP), nfe).effect
    # Short first steps move the state little; the last steps move it by a large share of what is left.
    assert (effect > 1e-6).all() and (effect[int(0.8 * nfe) + 1 :] > 0.1).all() and effect[-1] > 0.5


@pytest.mark.parametrize("nfe", [16, 100])
def test_the_exponential_methods_last_evaluation_has_the_weight_of_its_formula(nfe):
    """Its last step extrapolates x̂ in time, so the weight is a little above 1, in float32 as in exact arithmetic."""
    sampler = Exponential(warp=WARP)
    *_, first, before, last, end = sampler.time_grid(nfe)
    # A change of 1 in the last x̂ alone: slope 1/(t − before), bend slope/(t − first), and a = 1 − t.
    a, slope = end - last, 1 / (last - before)
    bend = slope / (last - first)
    weight = 1 + a * (slope + bend * (last - before)) + a * a * bend
    assert Run(sampler, nfe).effect[-1].item() == pytest.approx(weight, abs=1e-5)
    assert 1 < weight < 1.2
