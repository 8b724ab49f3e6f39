"""Properties of every corruption: identity at severity 0, one strength, and degradation keyed by the image."""

from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats

from restoration.corruption import (
    BlockMask,
    Corruption,
    Erase,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    OneOf,
    Operator,
    SaltPepper,
    Sequence,
)
from restoration.errors import UserError
from restoration.keyed import fold


def blur_erase() -> Operator:
    steps = {"blur": OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()}), "erase": Erase()}
    return Sequence(steps, {"blur": 0.25, "erase": 0.25})


def mixed() -> Operator:
    noise, salt, blocks = GaussianNoise(), SaltPepper(), BlockMask()
    return OneOf({"gaussian_noise": noise, "salt_pepper": salt, "block_mask": blocks})


OPERATORS = {
    "motion_blur": MotionBlur,
    "gaussian_blur": GaussianBlur,
    "erase": Erase,
    "block_mask": BlockMask,
    "gaussian_noise": GaussianNoise,
    "salt_pepper": SaltPepper,
    "blur_erase": blur_erase,
    "mixed": mixed,
}
CONF = Path(__file__).parents[2] / "conf" / "corruption"
# Every option of the config group, including later ones.
every = pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))


def configured(name: str) -> Corruption:
    return hydra.utils.instantiate(OmegaConf.load(CONF / f"{name}.yaml"))


SIZES = [(64, 64), (32, 32), (48, 80)]


@every
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("distribution", ["uniform", "fixed"])
def test_strength_zero_is_the_identity_bit_for_bit(name, size, distribution):
    # Many keys: an angle whose sine and cosine round badly must not leak a neighbour in.
    clean, keys = torch.randint(256, (200, 3, *size)) / 255, fold("zero", torch.arange(200))
    degraded, mask, severity = Corruption(configured(name).operator, 0.0, distribution)(clean, keys)
    assert torch.equal(degraded, clean)
    assert not mask.any() and not severity.any()


@every
def test_images_of_severity_zero_in_a_batch_are_unchanged(name):
    operator, clean = configured(name).operator, torch.rand(6, 3, 32, 32)
    severity = torch.tensor([0.7, 0.0, 1.0, 0.3, 0.0, 0.9])
    degraded, mask = operator.apply(clean, operator.sample(severity, fold("some", torch.arange(6)), (32, 32)))
    unchanged = (degraded == clean).flatten(1).all(1)
    assert torch.equal(unchanged, severity == 0)
    assert not mask[severity == 0].any()


@every
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shapes_types_and_range(name, size):
    clean = torch.rand(5, 3, *size)
    clean[0] = 0
    clean[1] = 1
    degraded, mask, severity = Corruption(configured(name).operator)(clean, torch.arange(5))
    assert degraded.shape == clean.shape and degraded.dtype == torch.float32
    assert mask.shape == (5, 1, *size) and mask.dtype == torch.bool
    assert severity.shape == (5,) and severity.dtype == torch.float32
    assert degraded.min() >= 0 and degraded.max() <= 1


@every
def test_degradation_does_not_depend_on_the_batch(name):
    corruption, clean = Corruption(configured(name).operator), torch.rand(24, 3, 32, 32)
    keys = fold("evaluation", torch.arange(24))
    whole = corruption(clean, keys)
    order = torch.randperm(24)
    for size in (1, 7, 24):
        parts = [corruption(clean[rows], keys[rows]) for rows in order.split(size)]
        for together, alone in zip(whole, (torch.cat(column) for column in zip(*parts, strict=True)), strict=True):
            if together.dtype == torch.float32:
                # A convolution may add in another order in another batch size, and a value be rounded the other way.
                differs = (alone - together[order]).abs() > 1e-6
                assert differs.float().mean() < 1e-3 and (alone - together[order]).abs().max() < 0.02
            else:
                assert torch.equal(alone, together[order])


@every
def test_degradation_differs_between_keys(name):
    corruption, clean = (
        Corruption(configured(name).operator, severity="fixed"),
        torch.rand(1, 3, 32, 32).expand(8, -1, -1, -1),
    )
    degraded, _, _ = corruption(clean, fold("evaluation", torch.arange(8)))
    distinct = len({image.numpy().tobytes() for image in degraded})
    assert distinct == (1 if name == "gaussian_blur" else 8)


def test_the_result_has_8_bits_in_version_2_alone():
    clean, keys = torch.randint(256, (8, 3, 32, 32)) / 255, torch.arange(8)
    levels = {version: 255 * Corruption(blur_erase(), protocol=version)(clean, keys)[0] for version in (1, 2)}
    assert (levels[2] - levels[2].round()).abs().max() < 1e-4 < 0.1 < (levels[1] - levels[1].round()).abs().max()


def test_input_is_not_changed():
    clean, keys = torch.rand(8, 3, 32, 32), torch.arange(8)
    for operator in OPERATORS.values():
        before = clean.clone()
        Corruption(operator())(clean, keys)
        assert torch.equal(clean, before)


def test_corruption_is_float32_under_autocast():
    clean, keys = torch.rand(4, 3, 32, 32), torch.arange(4)
    plain = Corruption(blur_erase())(clean, keys)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Corruption(blur_erase())(clean, keys)[0], plain)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_uniform_severities(strength):
    keys = fold("severity", torch.arange(5000))
    _, _, severity = Corruption(Erase(), strength)(torch.zeros(5000, 3, 1, 1), keys)
    assert severity.max() < strength
    assert stats.kstest(severity.numpy() / strength, "uniform").pvalue > 0.01


def test_fixed_severities():
    _, _, severity = Corruption(Erase(), 0.3, "fixed")(torch.zeros(9, 3, 4, 4), torch.arange(9))
    assert severity.unique().tolist() == pytest.approx([0.3])


def test_strength_scales_one_draw():
    clean, keys = torch.rand(50, 3, 8, 8), torch.arange(50)
    full, half = (Corruption(Erase(), strength)(clean, keys)[2] for strength in (1.0, 0.5))
    torch.testing.assert_close(half, full / 2)


@pytest.mark.parametrize(
    "arguments", [{"strength": -0.1}, {"strength": 1.1}, {"strength": "abc"}, {"severity": "normal"}, {"protocol": 3}]
)
def test_a_wrong_strength_or_severity_is_refused(arguments):
    with pytest.raises(UserError, match=f"corruption.{next(iter(arguments))}"):
        Corruption(Erase(), **arguments)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_config_group_is_this_operator(name):
    clean, keys = torch.rand(16, 3, 32, 32), torch.arange(16)
    for made, expected in zip(configured(name)(clean, keys), Corruption(OPERATORS[name]())(clean, keys), strict=True):
        assert torch.equal(made, expected)
