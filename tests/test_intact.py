"""The weights in the package: black is not always a hole, and noise is reduced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from restoration.corruption import SensorNoise
from restoration.metrics.classical import diffusion_fill
from restoration.metrics.image import psnr
from restoration.picture import read
from restoration.restore import Task, restore_pictures
from restoration.restorer import Restorer


def letterbox() -> Image.Image:
    y, x = np.mgrid[:64, :64]
    scene = [120 + 80 * np.sin(x / 7), 110 + 60 * np.cos(y / 9), 130 + 50 * np.sin((x + y) / 11)]
    still = np.stack(scene, -1).clip(20, 250).astype(np.uint8)
    still[:10] = still[-10:] = 0
    return Image.fromarray(still)


def digit() -> Image.Image:
    image = Image.new("L", (32, 32), 0)
    ImageDraw.Draw(image).text((12, 10), "7", fill=255)
    return image


def page() -> Image.Image:
    image = Image.new("1", (128, 64), 1)
    for row in range(4):
        ImageDraw.Draw(image).text((4, 2 + 15 * row), "the quick brown fox", fill=0)
    return image


def blind_filling(image: torch.Tensor) -> float:
    """PSNR in dB after a smooth filling of what is exactly black."""
    black = (image == 0).all(0)[None, None]
    return psnr(diffusion_fill(image[None], black), image[None]).item()


@pytest.mark.parametrize("make, floor", [(letterbox, 30), (digit, 30), (page, 15)])
def test_black_areas_of_an_intact_image_stay(tmp_path: Path, make, floor: float):
    """With the weights in the package, by the command's own way. The floor lies above what filling all black gives."""
    make().save(tmp_path / "a.png")
    assert restore_pictures(Restorer.load(), [Task(tmp_path / "a.png", "a.png", tmp_path / "b.png")]) == {}
    before, after = (read(tmp_path / name).image for name in ("a.png", "b.png"))
    assert psnr(after[None], before[None]).item() > floor > blind_filling(before) + 3


def test_noise_is_reduced():
    """By more than 4 dB; weights that only fill holes, as trained with equally weighted regions, reach 0.7."""
    clean = torch.from_numpy(np.array(letterbox())[10:-10]).permute(2, 0, 1)[None].float() / 255
    operator = SensorNoise()
    noisy, _ = operator.apply(clean, operator.sample(torch.tensor([0.8]), torch.tensor([1]), (44, 64)))
    restored = Restorer.load().restore((noisy * 255).round() / 255, torch.tensor([0])).images
    assert psnr(restored, clean).item() > psnr(noisy, clean).item() + 4
