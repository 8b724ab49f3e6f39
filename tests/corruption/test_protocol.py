"""Protocol version 1 on the real validation images, where they are present."""

import csv
from pathlib import Path

import pytest
import torch

from restoration.corruption import Corruption, Erase, GaussianBlur, MotionBlur, OneOf, Sequence
from restoration.data.datamodule import PROTOCOL
from restoration.data.decode import read_image
from restoration.keyed import fold
from restoration.metrics.image import psnr

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / ".." / "shared" / "protocol_reference.csv"
IMAGES = ROOT / "data" / "tiny-imagenet-200" / "val" / "images"

needs_images = pytest.mark.skipif(not IMAGES.is_dir(), reason="data/tiny-imagenet-200/val is not unpacked")
needs_oracle = pytest.mark.skipif(not ORACLE.is_file(), reason="protocol_reference.csv is not beside the repository")


def blur() -> OneOf:
    return OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()})


def read(names: list[str]) -> torch.Tensor:
    pixels = torch.stack([torch.from_numpy(read_image(IMAGES / name, 64).copy()) for name in names])
    return pixels.permute(0, 3, 1, 2).float().div_(255).contiguous()


@needs_images
@needs_oracle
def test_apply_reproduces_the_oracle_to_a_hundredth_of_a_decibel():
    with ORACLE.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1000
    operator = Sequence({"blur": blur(), "erase": Erase()})
    worst = {"psnr_blur_only": 0.0, "psnr": 0.0}
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]

        def column(name: str, part=part, **options) -> torch.Tensor:
            return torch.tensor([float(row[name]) for row in part], **options)

        parameters = {
            "blur": {
                "choice": torch.tensor([["motion", "gaussian"].index(row["blur"]) for row in part]),
                "motion": {"length": column("length_px"), "angle": column("angle_rad")},
                "gaussian": {"sigma": column("sigma_px")},
            },
            "erase": {name: column(name).long() for name in ("top", "left", "height", "width")},
        }
        clean = read([row["file"] for row in part])
        blurred, _ = operator.steps["blur"].apply(clean, parameters["blur"])
        degraded, mask = operator.apply(clean, parameters)
        assert torch.equal(mask.sum(dim=(1, 2, 3)), parameters["erase"]["height"] * parameters["erase"]["width"])
        for name, image in (("psnr_blur_only", blurred), ("psnr", degraded)):
            difference = (psnr(image, clean) - column(name)).abs().max().item()
            worst[name] = max(worst[name], difference)
    assert max(worst.values()) < 0.01, worst


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
def test_the_identity_scores_what_the_protocol_says(clean, strength, erase, severity, expected):
    corruption = Corruption(Sequence({"blur": blur(), **({"erase": Erase()} if erase else {})}), strength, severity)
    keys = fold("evaluation", PROTOCOL, torch.arange(len(clean)))
    parts = zip(clean.split(100), keys.split(100), strict=True)
    scores = torch.cat([psnr(corruption(images, part)[0], images) for images, part in parts])
    assert scores.mean().item() == pytest.approx(expected[strength], abs=0.15)
