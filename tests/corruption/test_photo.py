"""The parts of `corruption=photo` against independent references in float64, and the whole."""

import math

import numpy as np
import oracle
import pytest
import torch
from test_corruption import configured

from restoration.corruption import Defocus, Erase, Jpeg, SensorNoise, Strokes
from restoration.corruption.fill import Fill
from restoration.errors import UserError
from restoration.keyed import fold

NAMES = list(oracle.IMAGES)


def clean_images(size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    """The procedural images, rounded to 8 bits: float32 (6, 3, H, W)."""
    return torch.stack(
        [torch.from_numpy(np.rint(255 * oracle.procedural_image(n, *size)) / 255) for n in NAMES]
    ).float()


def stroke_mask(points: np.ndarray, widths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is nearer to a stroke than half its width, by distances to densely sampled points."""
    row, column = np.indices(size) + 0.5
    mask = np.zeros(size, dtype=bool)
    for corners, width in zip(points, widths, strict=True):
        line = np.concatenate([np.linspace(a, b, 2000) for a, b in zip(corners[:-1], corners[1:], strict=True)])
        distance = np.hypot(column[..., None] - line[:, 0], row[..., None] - line[:, 1]).min(-1)
        mask |= distance < width / 2
    return mask


@pytest.mark.parametrize("radius", [0.0, 0.4, 1.7, 5.0])
def test_defocus_is_a_disc(radius):
    clean = clean_images()
    degraded, mask = Defocus().apply(clean, {"radius": torch.full((6,), radius)})
    for image, result in zip(clean.numpy(), degraded.numpy(), strict=True):
        expected = oracle.blur(image, lambda x, y: min(1.0, max(0.0, radius + 0.5 - math.hypot(x, y))))
        np.testing.assert_allclose(result, expected, atol=2e-6)
    assert not mask.any()
    torch.testing.assert_close(
        Defocus().sample(torch.ones(1), torch.arange(1), (32, 48))["radius"], torch.tensor([2.5])
    )


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_sensor_noise_has_the_variance_of_read_and_photon_noise(level):
    clean = torch.full((4, 3, 64, 64), level)
    operator = SensorNoise(read=0.03, shot=0.08)
    degraded, _ = operator.apply(clean, operator.sample(torch.full((4,), 0.5), torch.arange(4), (64, 64)))
    variance = (degraded - clean).double().square().mean().item()
    # The relative standard deviation of a variance from n values is √(2/n).
    assert variance == pytest.approx(0.25 * (0.03**2 + 0.08**2 * level), rel=5 * math.sqrt(2 / clean.numel()))


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_rounds_in_the_cosine_domain(quality):
    clean = clean_images()
    degraded, mask = Jpeg().apply(clean, {"quality": torch.full((6,), quality)})
    for image, result in zip(clean.numpy(), degraded.numpy(), strict=True):
        expected = oracle.psnr(oracle.jpeg(image, quality), image)
        assert oracle.psnr(result, image) == pytest.approx(expected, abs=0.05)
    assert not mask.any()


def test_the_quality_of_jpeg_falls_with_severity_and_severity_0_is_not_compressed():
    severity = torch.tensor([0.0, 1e-6, 0.5, 1.0])
    assert Jpeg(90, 20).sample(severity, torch.arange(4), (8, 8))["quality"].tolist() == [0, 90, 55, 20]


@pytest.mark.parametrize("size", [(64, 64), (48, 80)], ids=str)
def test_strokes_are_lines_of_their_width(size):
    operator, severity = Strokes(), torch.tensor([0.0, 0.1, 0.4, 0.7, 1.0, 1.0])
    drawn = operator.sample(severity, fold("strokes", torch.arange(6)), size)
    _, mask = operator.apply(clean_images(size), drawn)
    assert ((drawn["width"] > 0).sum(1) == (4 * severity).ceil()).all()
    assert (drawn["width"] <= 5 * min(size) / 64 * severity[:, None]).all()
    for points, widths, made in zip(drawn["points"].numpy(), drawn["width"].numpy(), mask[:, 0].numpy(), strict=True):
        assert (made != stroke_mask(points, widths, size)).sum() <= 2  # pixels on the edge
    assert mask[-1].any() and not mask[0].any()


def test_the_content_of_holes():
    clean, keys = clean_images(), fold("fill", torch.arange(6))
    mask = torch.zeros(6, 1, 64, 64, dtype=torch.bool)
    mask[:, :, 10:40, 20:50] = True
    made = {}
    for kind in ("black", "white", "grey", "mean", "colour", "noise"):
        fill = Fill(kind)
        filled = fill(clean, mask, fill.sample(keys))
        assert torch.equal(filled[~mask.expand_as(clean)], clean[~mask.expand_as(clean)])
        made[kind] = filled[:, :, 10:40, 20:50]
    for kind, value in {"black": 0.0, "white": 1.0, "grey": 0.5}.items():
        assert (made[kind] == value).all()
    torch.testing.assert_close(made["mean"], clean.mean(dim=(2, 3), keepdim=True).expand(-1, -1, 30, 30))
    colours = made["colour"].flatten(2)
    assert torch.equal(colours, colours[..., :1].expand_as(colours)) and len(colours[..., 0].unique()) == 18
    noise = made["noise"].double()
    assert abs(noise.mean() - 0.5) < 0.01 and abs(noise.var() - 1 / 12) < 0.003
    # Any: the same contents, one per image, whatever the batch.
    fill, many = Fill("any"), fold("any", torch.arange(600))
    drawn = fill.sample(many)
    assert torch.bincount(drawn["fill"], minlength=6).min() > 60
    again = fill.sample(many[5:9])
    assert all(torch.equal(again[name], drawn[name][5:9]) for name in drawn)
    for kind, name in enumerate(made):
        keep = drawn["fill"] == kind
        alone = Fill(name)
        rows = clean[:1].expand(int(keep.sum()), -1, -1, -1)
        one = alone(rows, mask[:1], alone.sample(many[keep]))
        assert torch.equal(fill(rows, mask[:1], {n: value[keep] for n, value in drawn.items()}), one)
    with pytest.raises(UserError, match="choose one of black"):
        Erase(fill="red")


def test_the_whole_corruption_reproduces_the_expected_psnr():
    """Blur, JPEG, a coloured rectangle and white strokes with explicit parameters, in the order of the config."""
    clean, operator = clean_images(), configured("photo").operator
    points = torch.tensor([[[8.0, 50.0], [30.0, 40.0], [52.0, 55.0]]]).expand(6, 1, 3, 2)
    zero, colour = torch.zeros(6), torch.tensor([[0.2, 0.7, 0.4]]).expand(6, 3)
    none = {"noise": torch.arange(6)}
    parameters = {
        "blur": {
            "choice": torch.tensor([0, 1, 2, 0, 1, 2]),
            "motion": {"length": torch.full((6,), 6.0), "angle": torch.full((6,), 0.8)},
            "gaussian": {"sigma": torch.full((6,), 1.2)},
            "defocus": {"radius": torch.full((6,), 2.2)},
        },
        "noise": {"factor": zero, "key": torch.arange(6)},
        "jpeg": {"quality": torch.full((6,), 40)},
        "erase": {
            **{n: torch.full((6,), v) for n, v in (("top", 5), ("left", 9), ("height", 20), ("width", 30))},
            **{"fill": torch.full((6,), 4), "colour": colour, **none},
        },
        "strokes": {
            **{"points": points, "width": torch.full((6, 1), 3.0)},
            **{"fill": torch.full((6,), 1), "colour": torch.ones(6, 3), **none},
        },
        "saved": {"quality": torch.zeros(6, dtype=torch.int64)},
    }
    weights = [
        lambda x, y: oracle.motion_weight(x, y, 6.0, 0.8),
        lambda x, y: oracle.gaussian_weight(x, y, 1.2),
        lambda x, y: min(1.0, max(0.0, 2.7 - math.hypot(x, y))),
    ]
    degraded, mask = operator.apply(clean, parameters)
    stroke = stroke_mask(points[0].numpy(), np.array([3.0]), (64, 64))
    for number, image in enumerate(clean.double().numpy()):
        expected = oracle.jpeg(oracle.blur(image, weights[number % 3]).clip(0, 1), 40)
        expected[:, 5:25, 9:39] = colour[0].numpy()[:, None, None]
        expected[:, stroke] = 1
        assert oracle.psnr(degraded[number].numpy(), image) == pytest.approx(oracle.psnr(expected, image), abs=0.05)
    hole = stroke.copy()
    hole[5:25, 9:39] = True
    assert (mask.numpy()[:, 0] != hole).sum(axis=(1, 2)).max() <= 2


def test_every_kind_of_image_is_in_training():
    """Intact, only blurred and only erased images among 4,000, as often as the probabilities say."""
    corruption = configured("photo")
    kinds = corruption.kinds(fold("kinds", torch.arange(4000)), (64, 64))
    assert kinds is not None
    skip = corruption.operator.skip
    intact = math.prod(skip.values())
    for kinds_of, expected in (
        (("intact",), intact),
        (("motion", "gaussian", "defocus"), intact * (1 - skip["blur"]) / skip["blur"]),
        (("erase",), intact * (1 - skip["erase"]) / skip["erase"]),
        (("jpeg",), intact * (1 - skip["jpeg"]) / skip["jpeg"]),
    ):
        share = sum(kind in kinds_of for kind in kinds) / 4000
        assert abs(share - expected) < 4 * math.sqrt(expected / 4000)
