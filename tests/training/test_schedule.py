"""Learning-rate factors against their formulas."""

import math

import pytest

from restoration.training.schedule import Cosine


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
    for schedule in (Cosine(final=1.0), Cosine(), Cosine(warmup=0)):
        assert all(0 < schedule(step, steps) <= 1 for step in range(steps + 1))
