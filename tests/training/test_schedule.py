"""Learning-rate factors against their formulas."""

import math

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from restoration.training.schedule import Cosine, MultiStep, OneCycle, WarmRestarts


def test_the_warm_up_is_linear_and_never_zero():
    for schedule in (Cosine(0.1, final=1.0), Cosine(0.1)):
        assert [schedule(step, 100) for step in range(10)] == [pytest.approx((step + 1) / 11) for step in range(10)]
        assert schedule(10, 100) == 1.0


def test_constant_stays():
    assert {Cosine(0.1, final=1.0)(step, 100) for step in range(10, 200)} == {1.0}


def test_cosine_falls_to_its_final_factor_and_stays_there():
    schedule = Cosine(warmup=0.1, final=0.05)
    for step in (10, 25, 55, 99):
        progress = (step - 10) / 90
        assert schedule(step, 100) == pytest.approx(0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)
    assert schedule(55, 100) == pytest.approx(0.525)
    assert schedule(100, 100) == schedule(250, 100) == pytest.approx(0.05)
    values = [schedule(step, 100) for step in range(10, 101)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_stages_have_factors_in_range(steps):
    for schedule in (Cosine(final=1.0), Cosine(), Cosine(warmup=0), OneCycle(), MultiStep(), WarmRestarts(final=0.1)):
        assert all(0 < schedule(step, steps) <= 1 for step in range(steps + 1))


def test_one_cycle_may_rise_throughout_or_not_at_all():
    falls = [OneCycle(rise=0)(step, 100) for step in range(100)]
    assert falls == sorted(falls, reverse=True) and falls[0] > 0.99
    rises = [OneCycle(rise=1)(step, 100) for step in range(100)]
    assert rises == sorted(rises) and rises[0] == pytest.approx(0.04)


def test_cosine_is_torchs_at_every_step():
    """Ours is a function of the step, so that a run can resume, end later and train in stages."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    parts = [LinearLR(optimizer, 1 / 11, total_iters=10), CosineAnnealingLR(optimizer, 90, eta_min=0.02)]
    scheduler, schedule = SequentialLR(optimizer, parts, [10]), Cosine(0.1, 0.02)
    for step in range(100):
        assert schedule(step, 100) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_one_cycle_rises_and_falls_by_cosines():
    schedule = OneCycle(rise=0.4, start=0.1, final=0.01)
    # torch's phases of 101 steps end at 0.4 · 101 − 1 and 100.
    top = 0.4 * 101 - 1
    for step in (0, 10, 20, 39):
        share = (1 - math.cos(math.pi * step / top)) / 2
        assert schedule(step, 100) == pytest.approx(0.1 + 0.9 * share)
    for step in (40, 70, 99):
        share = (1 + math.cos(math.pi * (step - top) / (100 - top))) / 2
        assert schedule(step, 100) == pytest.approx(0.01 + 0.99 * share)
    assert schedule(500, 100) == schedule(99, 100) == pytest.approx(0.01, abs=1e-3)


def test_multi_step_falls_at_its_milestones():
    schedule = MultiStep([0.5, 0.75], gamma=0.1, warmup=0.1)
    expected = {0: 1 / 11, 9: 10 / 11, 10: 1.0, 49: 1.0, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01, 300: 0.01}
    assert {step: schedule(step, 100) for step in expected} == pytest.approx(expected)


def test_warm_restarts_fill_the_stage():
    """After ten steps of warm-up, cosines of 30 and 60 steps."""
    schedule = WarmRestarts(cycles=2, growth=2, warmup=0.1, final=0.0)
    assert schedule(0, 100) == pytest.approx(1 / 11)
    for start, length in ((10, 30), (40, 60)):
        for step in (0, 7, length // 2, length - 1):
            assert schedule(start + step, 100) == pytest.approx((1 + math.cos(math.pi * step / length)) / 2)


def test_a_lengthened_run_reads_another_table():
    schedule = OneCycle()
    assert schedule(50, 100) > schedule(99, 100) and schedule(99, 100) < schedule(99, 200)
