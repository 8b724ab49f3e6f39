"""Compositions of operators."""

import math

import pytest
import torch
from scipy import stats

from restoration.corruption import BlockMask, Corruption, Erase, GaussianBlur, MotionBlur, OneOf, SaltPepper, Sequence
from restoration.errors import UserError
from restoration.keyed import fold, uniform


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


def blur_erase(**skip: float) -> Sequence:
    return Sequence({"blur": OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()}), "erase": Erase()}, skip)


def test_parts_have_independent_severities_and_are_left_out_with_their_probability():
    keys, skip = fold("parts", torch.arange(8000)), {"blur": 0.25, "erase": 0.4}
    severities, _ = Corruption(blur_erase(**skip), 0.5).sample(keys, (16, 16))
    assert list(severities) == ["blur.motion", "blur.gaussian", "erase"]
    blur, erase = severities["blur.motion"] + severities["blur.gaussian"], severities["erase"]
    assert not ((severities["blur.motion"] > 0) & (severities["blur.gaussian"] > 0)).any()
    for part, share in ((blur, 0.25), (erase, 0.4)):
        assert abs((part == 0).float().mean() - share) < 4 * math.sqrt(share * (1 - share) / 8000)
        assert stats.kstest(part[part > 0].numpy() / 0.5, "uniform").pvalue > 0.005
    # Neither the severity of a part nor its presence tells anything about another.
    both = (blur > 0) & (erase > 0)
    assert stats.spearmanr(blur[both], erase[both]).pvalue > 0.005
    table = [[((blur > 0) == there) & ((erase > 0) == other) for other in (True, False)] for there in (True, False)]
    assert stats.chi2_contingency([[cell.sum().item() for cell in row] for row in table]).pvalue > 0.005


def test_version_1_shares_one_severity_and_leaves_nothing_out():
    keys = fold("shared", torch.arange(200))
    severities, _ = Corruption(blur_erase(blur=0.5, erase=0.5), 0.5, protocol=1).sample(keys, (16, 16))
    expected = 0.5 * uniform(fold(keys, "severity"), 1)[:, 0]
    assert torch.equal(severities["erase"], expected)
    assert torch.equal(severities["blur.motion"] + severities["blur.gaussian"], expected)


def test_a_fixed_severity_leaves_nothing_out():
    severities, _ = Corruption(blur_erase(blur=1.0, erase=1.0), 0.5, "fixed").sample(torch.arange(50), (16, 16))
    assert severities["erase"].unique().tolist() == [0.5]


def test_the_severity_of_an_image_is_that_of_its_known_region():
    keys, clean = torch.arange(50), torch.rand(50, 3, 16, 16)
    severities, _ = Corruption(blur_erase()).sample(keys, (16, 16))
    blur = severities["blur.motion"] + severities["blur.gaussian"]
    assert torch.equal(Corruption(blur_erase())(clean, keys)[2], blur)
    only = Corruption(Sequence({"erase": Erase(), "salt": SaltPepper()}))
    assert torch.equal(only(clean, keys)[2], torch.stack([*only.sample(keys, (16, 16))[0].values()]).amax(0))


def test_kinds_name_the_part_that_is_there():
    keys = torch.arange(300)
    corruption = Corruption(blur_erase(blur=0.5, erase=0.5))
    severities, _ = corruption.sample(keys, (16, 16))
    kinds = corruption.kinds(keys, (16, 16))
    assert kinds is not None and set(kinds) == {"motion", "gaussian", "erase", "several", "intact"}
    for number, kind in enumerate(kinds):
        there = [name.removeprefix("blur.") for name, value in severities.items() if value[number] > 0]
        assert kind == ("intact" if not there else there[0] if len(there) == 1 else "several")
    assert Corruption(Erase()).kinds(keys, (16, 16)) is None


@pytest.mark.parametrize("skip", [{"blur": -0.1}, {"blur": 1.1}, {"blur": "half"}, {"noise": 0.5}])
def test_a_wrong_skip_is_refused(skip):
    with pytest.raises(UserError, match="corruption.operator.skip"):
        blur_erase(**skip)
