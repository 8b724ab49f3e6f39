"""Trajectories that average velocities are learnt from: inside the range of images, and of a teacher."""

from dataclasses import replace

import pytest
import torch
from gaussian import exact_map, gaussian_batch
from hostile import CLEAN
from random_checkpoint import write_random_checkpoint

from restoration.flow import Noise, VelocityPrediction
from restoration.objective import SquaredError, Trajectory
from restoration.objective.trajectory import InRange
from restoration.restorer import Restorer
from restoration.run.checkpoint import initialize
from restoration.sampler import Euler, Exponential, Heun


@pytest.mark.parametrize("solver", [Euler(nfe=8), Heun(nfe=8), Exponential(nfe=8)])
def test_trajectories_of_a_field_that_runs_away_stay_in_the_range_of_images(solver):
    """Each answers with more than it is given."""
    field = exact_map(Noise(), VelocityPrediction).field(gaussian_batch(2, 8).degraded)
    away = replace(field, network=lambda x_in, *_: 8 * x_in)
    start = field.start(torch.arange(2))
    (*_, (_, free)), (*_, (_, end)) = (solver.trajectory(each, start) for each in (away, InRange(away)))
    assert free.abs().max() > 50 and end.abs().max() <= 1 + 1e-6
    (*_, (_, exact)), (*_, (_, same)) = (solver.trajectory(each, start) for each in (field, InRange(field)))
    torch.testing.assert_close(same, exact)


def test_a_teacher_is_followed_and_does_not_change(tmp_path):
    file, batch = write_random_checkpoint(tmp_path), gaussian_batch(2, 16)
    student = Restorer.build({**CLEAN, "backbone": {**CLEAN["backbone"], "two_times": True}}, "random")
    initialize(student, file)
    term = Trajectory(Euler(nfe=4), SquaredError(), teacher=str(file))
    assert not list(term.parameters())
    x_t, t = torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.7])
    expected = Restorer.load(file).field(batch.degraded).velocity(x_t, t)
    for factor in (1, 2):
        with torch.no_grad():
            student.backbone.head.weight.mul_(factor)
        field = student.eval().field(batch.degraded)
        torch.testing.assert_close(term._followed(field, batch).velocity(x_t, t), expected)
    assert (field.velocity(x_t, t) - expected).abs().max() > 0.01
