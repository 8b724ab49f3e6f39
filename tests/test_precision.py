"""The type in which a restorer's network multiplies: what is asked for is used, and changes little."""

import math

import pytest
import torch
from helpers import complaint, run_command
from PIL import Image
from tiny import tiny_module
from torch import Tensor, nn
from untouched import pixels

from restoration.flow.tiling import Tiles
from restoration.restore import main
from restoration.restorer import Restorer
from restoration.run.hardware import autocast_dtype, resolve_precision


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    """A tiny network whose last layer is not zero, with a fixed scale of its weights."""
    torch.manual_seed(0)
    made = tiny_module().restorer.eval().requires_grad_(False)
    nn.init.normal_(made.backbone.head.weight, std=0.05)
    return made


def used(restorer: Restorer) -> set[torch.dtype]:
    """Types of what the convolutions give from here on."""
    types: set[torch.dtype] = set()

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        types.add(output.dtype)

    for module in restorer.backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    return types


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("tiles", [None, Tiles(32, 16)])
def test_the_network_multiplies_in_that_type(dtype: torch.dtype | None, tiles: Tiles | None):
    restorer = tiny_module().restorer.eval()
    types = used(restorer)
    done = restorer.restore(torch.rand(1, 3, 48, 48), torch.arange(1), 2, tiles=tiles, dtype=dtype)
    assert types == {dtype or torch.float32}
    assert done.images.dtype == done.hole_share.dtype == torch.float32


def test_an_autocast_around_the_call_is_kept():
    """As in a validation of a training in bfloat16."""
    restorer = tiny_module().restorer.eval()
    types = used(restorer)
    with torch.autocast("cpu", torch.bfloat16):
        restorer.restore(torch.rand(1, 3, 32, 32), torch.arange(1), 1)
    assert types == {torch.bfloat16}


@pytest.mark.parametrize("tiles", [None, Tiles(32, 16)])
@pytest.mark.parametrize("nfe", [1, 3])
def test_bfloat16_changes_little(restorer: Restorer, nfe: int, tiles: Tiles | None):
    """A product has a relative error of 2^-9, which some dozen layers add up: below a grey level on average."""
    image, keys = torch.rand(1, 3, 48, 48), torch.arange(1)
    exact = restorer.restore(image, keys, nfe, tiles=tiles).images
    near = restorer.restore(image, keys, nfe, tiles=tiles, dtype=torch.bfloat16).images
    assert 0 < (near - exact).square().mean().sqrt() < 1 / 255


def test_the_weights_in_the_package_change_little_too():
    restorer, image = Restorer.load(), pixels(64, 64, 3) // 2 + 40
    exact, near = (
        torch.tensor(restorer.restore_image(image, 1, dtype=dtype)).double() for dtype in (None, torch.bfloat16)
    )
    rms = math.sqrt((near - exact).square().mean())
    assert 0 < rms < 1


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_command_takes_it(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(32, 32, 3)).save("a.png")
    restorer = tiny_module().restorer.eval()
    restorer.config = {"sampler": {"_target_": "restoration.sampler.Euler", "nfe": 1}}
    types = used(restorer)
    monkeypatch.setattr(Restorer, "load", lambda *_: restorer)
    words = ["checkpoint=c", "input=a.png", "output=b.png", "device=cpu", "overwrite=true"]
    for precision in ("bf16-mixed", "32-true"):
        types.clear()
        assert run_command(main, *words, f"precision={precision}") == 0
        assert types == {autocast_dtype(precision) or torch.float32}
        assert said(capsys).endswith(f"on cpu in {precision}")
    assert run_command(main, *words) == 0
    assert said(capsys).endswith(f"on cpu in {resolve_precision('auto', 'cpu')}")
    assert run_command(main, *words, "precision=16-mixed") == 2
    assert complaint(capsys).startswith("precision=16-mixed needs a CUDA GPU")
    assert run_command(main, *words, "precision=16") == 2
    assert complaint(capsys).startswith("precision=16: choose one of auto")
