"""Compositions of operators."""

import math

import pytest
import torch

from restoration.corruption import BlockMask, Corruption, Erase, GaussianBlur, MotionBlur, OneOf, SaltPepper, Sequence
from restoration.keyed import fold


def test_a_sequence_applies_its_steps_in_order_and_unites_their_holes():
    steps = {"blur": GaussianBlur(), "first": Erase(), "second": Erase()}
    sequence = Sequence(steps)
    images, severity, keys = torch.rand(9, 3, 32, 32), torch.rand(9), torch.arange(9)
    parameters = sequence.sample(severity, keys, (32, 32))
    degraded, mask = sequence.apply(images, parameters)
    expected, holes = images, []
    for name, step in steps.items():
        expected, hole = step.apply(expected, parameters[name])
        holes.append(hole)
    assert torch.equal(degraded, expected)
    assert torch.equal(mask, holes[1] | holes[2])
    # Two steps of one kind have independent draws.
    assert not torch.equal(parameters["first"]["top"], parameters["second"]["top"])


def test_blur_comes_before_erasure():
    """The hole is black up to its edge and does not darken its neighbours."""
    operator = Sequence({"blur": GaussianBlur(), "erase": Erase()})
    white = torch.ones(4, 3, 64, 64)
    degraded, mask = operator.apply(white, operator.sample(torch.ones(4), torch.arange(4), (64, 64)))
    torch.testing.assert_close(degraded, (~mask).float().expand_as(white), atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_one_of_chooses_each_as_often(count):
    choices = dict(list({"a": MotionBlur(), "b": Erase(), "c": BlockMask()}.items())[:count])
    choice = OneOf(choices).sample(torch.ones(6000), fold("mix", torch.arange(6000)), (16, 16))["choice"]
    frequency = torch.bincount(choice, minlength=count) / 6000
    assert len(frequency) == count
    assert (frequency - 1 / count).abs().max() < 4 * math.sqrt(1 / count * (1 - 1 / count) / 6000)


def test_one_of_applies_the_choice_to_its_image():
    choices = {"blur": MotionBlur(), "salt": SaltPepper(), "nested": Sequence({"a": Erase(), "b": BlockMask()})}
    operator = OneOf(choices)
    images, keys = torch.rand(30, 3, 32, 32), torch.arange(30)
    parameters = operator.sample(torch.ones(30), keys, (32, 32))
    degraded, mask = operator.apply(images, parameters)
    assert parameters["choice"].unique().tolist() == [0, 1, 2]
    assert operator.kinds(parameters) == [list(choices)[number] for number in parameters["choice"]]
    for number, name in enumerate(choices):
        rows = parameters["choice"] == number
        everywhere, holes = choices[name].apply(images, parameters[name])
        torch.testing.assert_close(degraded[rows], everywhere[rows], atol=1e-6, rtol=0)
        assert torch.equal(mask[rows], holes[rows])


def test_the_choice_is_independent_of_the_parameters():
    """Draws under different names are independent: the mean angle is the same for both choices."""
    keys = fold("independent", torch.arange(8000))
    drawn = OneOf({"motion": MotionBlur(), "erase": Erase()}).sample(torch.ones(8000), keys, (64, 64))
    first = drawn["choice"] == 0
    angle = drawn["motion"]["angle"] / math.pi
    assert abs(angle[first].mean() - angle[~first].mean()) < 4 * math.sqrt(1 / 12 * 4 / 8000)


def test_kinds_of_a_sequence_are_joined_and_a_single_kind_has_no_name():
    blur, noise = OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()}), OneOf({"salt": SaltPepper()})
    keys = torch.arange(20)

    def kinds(operator):
        return operator.kinds(operator.sample(torch.ones(20), keys, (16, 16)))

    assert kinds(Erase()) is None and kinds(Sequence({"a": Erase(), "b": MotionBlur()})) is None
    assert set(kinds(Sequence({"blur": blur, "erase": Erase()}))) == {"motion", "gaussian"}
    assert Corruption(blur).kinds(keys, (16, 16)) == kinds(blur)
    assert set(kinds(Sequence({"blur": blur, "noise": noise}))) == {"motion + salt", "gaussian + salt"}
