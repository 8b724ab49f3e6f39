"""Degraded training images per second: files through PIL and torchvision, torchvision on tensors, and ours."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from restoration.benchmark.contenders import Contender
from restoration.benchmark.page import Figures
from restoration.benchmark.settings import Settings
from restoration.benchmark.timing import measure
from restoration.keyed import fold
from restoration.run.command import CONF

_BATCH, _SIZE, _WORKERS = 64, 64, 2
# The largest blur and rectangle of corruption=blur_erase, without motion blur, which torchvision has not.
_SIGMA, _KERNEL, _AREA, _ASPECT = 3.0, 19, 0.3, (0.3, 3.3)
_OURS = ["~corruption.operator.steps.blur.choices.motion", "corruption.operator.skip={blur:0,erase:0}"]


def loading(_: list[Contender], settings: Settings) -> Figures:
    """Clean and degraded batches from the same images, by the clock on the wall."""
    images = 64 if settings.smoke else 512
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = compose("train", ["data=dead_leaves", f"data.train_images={images}", *_OURS])
    corruption = instantiate(config.corruption)
    data = instantiate(config.data, corruption=corruption, image_size=_SIZE, selection_images=1, test_images=1)
    data.setup()
    pixels = torch.from_numpy(data.splits["train"].images)
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(data.splits["train"].images):
            place = Path(folder) / "class" / f"{number}.jpg"
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(place, quality=90)
        calls: dict[str, Callable[[], int]] = {
            "ImageFolder, PIL, torchvision": lambda: _files(folder, 0),
            f"ImageFolder, PIL, torchvision, {_WORKERS} workers": lambda: _files(folder, _WORKERS),
            "torchvision v2, tensors in memory": lambda: _tensors(pixels),
            "ours: decoded once, degraded in batches": lambda: _batches(pixels, corruption),
        }
        seconds = measure(list(calls.values()), 3, "cpu", settings.slow, wall=True)
    figures = Figures(
        "Data loading",
        f"{images} images of {_SIZE} x {_SIZE} pixels in batches of {_BATCH}: Gaussian blur of σ up to {_SIGMA:g} with "
        f"a {_KERNEL} x {_KERNEL} kernel, and one rectangle of at most {_AREA:.0%} of the area, other for each "
        "image. By the clock on the wall, the start of workers included.",
    )
    first = images / statistics.median(seconds[0])
    for name, times in zip(calls, seconds, strict=True):
        speed = images / statistics.median(times)
        figures.rows.append({"pipeline": name, "images per second": speed, "times the first": speed / first})
    return figures


class _Pair:
    """The clean and the degraded tensor of an image; a class, so that workers can be sent it."""

    def __init__(self) -> None:
        self.clean = transforms.ToTensor()
        self.blur = transforms.GaussianBlur(_KERNEL, (0.01, _SIGMA))
        self.erase = transforms.RandomErasing(1.0, (0.0, _AREA), _ASPECT)

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        clean = self.clean(image)
        return clean, self.erase(self.blur(clean))


def _files(folder: str, workers: int) -> int:
    loader = DataLoader(ImageFolder(folder, _Pair()), _BATCH, shuffle=True, num_workers=workers)
    return sum(len(images) for (images, _), _ in loader)


def _tensors(pixels: Tensor) -> int:
    degrade = v2.Compose([v2.GaussianBlur(_KERNEL, (0.01, _SIGMA)), v2.RandomErasing(1.0, (0.0, _AREA), _ASPECT)])
    count = 0
    for rows in torch.randperm(len(pixels)).split(_BATCH):
        clean = pixels[rows].permute(0, 3, 1, 2).float().div_(255).contiguous()
        count += len(torch.stack([degrade(image) for image in clean]))  # one draw for each image
    return count


def _batches(pixels: Tensor, corruption: Any) -> int:
    count = 0
    for rows in torch.randperm(len(pixels)).split(_BATCH):
        clean = pixels[rows].permute(0, 3, 1, 2).float().div_(255).contiguous()
        count += len(corruption(clean, fold(0, rows))[0])
    return count
