"""docs/protocol.md: expected PSNR of explicit parameters, on procedural images and, if present, real ones.

The table of the real images is `protocol_reference.csv` in this folder or the file that RESTORATION_ORACLE names.
"""

import csv
import os
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch

from restoration.corruption import Corruption, Erase, GaussianBlur, MotionBlur, OneOf, Sequence
from restoration.data.decode import read_image
from restoration.keyed import fold, uniform
from restoration.metrics.image import psnr

REAL = Path(os.environ.get("RESTORATION_ORACLE", Path(__file__).with_name("protocol_reference.csv")))
IMAGES = Path(__file__).parents[2] / "data" / "tiny-imagenet-200" / "val" / "images"

needs_images = pytest.mark.skipif(not IMAGES.is_dir(), reason="data/tiny-imagenet-200/val is missing")
needs_oracle = pytest.mark.skipif(not REAL.is_file(), reason="no protocol_reference.csv and no RESTORATION_ORACLE")


def blur() -> OneOf:
    return OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()})


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def worst_difference(rows: list[dict[str, str]], clean: torch.Tensor) -> float:
    """Largest |PSNR − expected PSNR|, after blur and after both, of images (B, 3, H, W) with the parameters of rows."""

    def column(name: str) -> torch.Tensor:
        return torch.tensor([float(row[name]) for row in rows])

    parameters = {
        "blur": {
            "choice": torch.tensor([["motion", "gaussian"].index(row["blur"]) for row in rows]),
            "motion": {"length": column("length_px"), "angle": column("angle_rad")},
            "gaussian": {"sigma": column("sigma_px")},
        },
        "erase": {name: column(name).long() for name in ("top", "left", "height", "width")},
    }
    operator = Sequence({"blur": blur(), "erase": Erase()})
    blurred, _ = operator.parts["blur"].apply(clean, parameters["blur"])
    degraded, mask = operator.apply(clean, parameters)
    assert torch.equal(mask.sum(dim=(1, 2, 3)), parameters["erase"]["height"] * parameters["erase"]["width"])
    differences = [psnr(blurred, clean) - column("psnr_blur_only"), psnr(degraded, clean) - column("psnr")]
    return max(difference.abs().max().item() for difference in differences)


@pytest.mark.parametrize("size", sorted(set(oracle.SIZES)), ids=str)
def test_apply_reproduces_the_table_to_a_hundredth_of_a_decibel(size):
    rows = [row for row in table(oracle.TABLE) if (int(row["image_height"]), int(row["image_width"])) == size]
    clean = torch.stack([torch.from_numpy(oracle.procedural_image(row["image"], *size)).float() for row in rows])
    assert len(rows) >= 24 and worst_difference(rows, clean) < 0.01


def test_the_table_is_what_its_script_writes():
    stored, made = table(oracle.TABLE), oracle.table()
    for row, expected in zip(stored, made, strict=True):
        for name, value in expected.items():
            if name.startswith("psnr"):
                assert float(row[name]) == pytest.approx(float(value), abs=0.0011)
            else:
                assert row[name] == str(value)


def test_sampled_parameters_follow_the_protocol():
    """Lengths, angles, σ and rounded rectangles from the draws of each key, in float64."""
    size, severity, keys = (48, 80), torch.linspace(0, 1, 400), fold("sampled", torch.arange(400))
    motion, gaussian, erase = (kind.sample(severity, keys, size) for kind in (MotionBlur(), GaussianBlur(), Erase()))
    angle = np.pi * uniform(fold(keys, "motion"), 1)[:, 0].double()
    draws = uniform(fold(keys, "erase"), 3).tolist()
    torch.testing.assert_close(motion["angle"].double(), angle, atol=1e-6, rtol=0)
    torch.testing.assert_close(motion["length"], 14 * 0.75 * severity)
    torch.testing.assert_close(gaussian["sigma"], 3 * 0.75 * severity)
    for number, (first, *place) in enumerate(draws):
        aspect = 0.3 * 11**first  # log-uniform in [0.3, 3.3]
        expected = oracle.rectangle(0.3 * severity[number].item(), aspect, place, size)
        assert {name: values[number].item() for name, values in erase.items()} == expected


def read(names: list[str]) -> torch.Tensor:
    pixels = torch.stack([torch.from_numpy(read_image(IMAGES / name, 64).copy()) for name in names])
    return pixels.permute(0, 3, 1, 2).float().div_(255).contiguous()


@needs_images
@needs_oracle
def test_apply_reproduces_the_table_of_real_images():
    rows = table(REAL)
    assert len(rows) == 1000
    parts = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    assert max(worst_difference(part, read([row["file"] for row in part])) for part in parts) < 0.01


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    return read([f"val_{number}.JPEG" for number in range(10_000)])


@needs_images
@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize(
    "erase, severity, expected",
    [
        (True, "uniform", {0.25: 21.4, 0.5: 18.1, 0.75: 16.3, 1.0: 15.2}),
        (False, "uniform", {0.25: 34.8, 0.5: 28.3, 0.75: 25.4, 1.0: 23.9}),
        (True, "fixed", {0.25: 16.6, 0.5: 13.6, 0.75: 12.0, 1.0: 10.8}),
    ],
    ids=["blur_erase", "blur", "blur_erase-fixed"],
)
def test_the_identity_has_the_psnr_of_the_protocol(clean, strength, erase, severity, expected):
    corruption = Corruption(
        Sequence({"blur": blur(), **({"erase": Erase()} if erase else {})}), strength, severity, protocol=1
    )
    keys = fold("evaluation", 1, torch.arange(len(clean)))
    parts = zip(clean.split(100), keys.split(100), strict=True)
    scores = torch.cat([psnr(corruption(images, part)[0], images) for images, part in parts])
    assert scores.mean().item() == pytest.approx(expected[strength], abs=0.15)
