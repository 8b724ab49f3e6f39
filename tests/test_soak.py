"""A short kill test; `make soak` is the long one."""

from pathlib import Path

import pytest
from soak import soak


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_the_uninterrupted_one(tmp_path: Path):
    assert soak(tmp_path, kills=3, steps=100, seed=1)
