"""docs/sharing.md: its examples run, on files made as it says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_command
from PIL import Image
from random_checkpoint import write_random_checkpoint

from restoration.export import main
from restoration.restorer import Restorer

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "sharing.md").read_text(), re.DOTALL
)


def example(word: str) -> str:
    (found,) = [code for code in EXAMPLES if word in code]
    return found


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Restorer.load(write_random_checkpoint(tmp_path)).save("photo.safetensors")


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 27, 3), dtype=np.uint8)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array).permute(2, 0, 1)[None] / 255


def test_one_line_of_python():
    found = {"image": pixels()}
    exec(example("restore_image"), found)
    assert isinstance(found["restored"], np.ndarray) and found["restored"].shape == (40, 27, 3)


def test_spandrel():
    pytest.importorskip("spandrel")
    image = Restorer.load("photo.safetensors").restore_image(pixels(), nfe=1)
    found = {"image": tensor(pixels())}
    exec(example("register()"), found)
    difference = found["restored"] - tensor(image)
    assert difference.abs().max() < 0.05  # files are rounded to 8 bits


@pytest.mark.slow
def test_onnx_runtime():
    pytest.importorskip("onnxruntime")
    Image.fromarray(pixels()).save("photo.png")
    assert run_command(main, "checkpoint=photo.safetensors", "output=photo.onnx") == 0
    code = example("onnxruntime")
    assert "torch" not in code and "restoration" not in code
    exec(code, {})
    with Image.open("restored.png") as restored:
        assert restored.size == (27, 40)
        # Only the noise differs: x̂_1 at t = 0 does not depend on it.
        wanted = Restorer.load("photo.safetensors").restore_image(pixels(), nfe=1)
        assert np.abs(np.asarray(restored, float) - np.asarray(wanted, float)).max() <= 1
