"""Exported graphs give what PyTorch gives, at sizes other than that of the export."""

from pathlib import Path

import pytest
import torch
from helpers import complaint, run_command
from hostile_configs import CLEAN
from random_checkpoint import write_random_checkpoint
from torch import Tensor

from restoration import export
from restoration.errors import UserError
from restoration.estimator import fill as filling
from restoration.export import graph, main
from restoration.keyed import fold, normal
from restoration.restorer import Restorer

# (B, H, W): a single stride, odd numbers of strides, and more pixels than the export saw.
SIZES = [(1, 16, 16), (3, 176, 80), (1, 32, 208)]


def example(size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Degraded images with a hole, keys, their noise, and the mask of the hole."""
    count, height, width = size
    degraded, keys = torch.rand(count, 3, height, width), fold(3, torch.arange(count))
    mask = torch.zeros(count, 1, height, width, dtype=torch.bool)
    mask[..., 3 : height // 2, 5 : width - 2] = True
    return degraded.masked_fill(mask, 0), keys, normal(keys, (3, height, width)), mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
def test_onnx_gives_what_pytorch_gives(checkpoint: Path, tmp_path: Path, tmp_path_factory, mask: bool):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "photo.onnx"
    if mask:  # with this prediction, the noise has an effect at t = 0
        prediction = {"_target_": "restoration.flow.VelocityPrediction", "_partial_": True}
        checkpoint = write_random_checkpoint(tmp_path_factory.mktemp("velocity"), prediction=prediction)
    assert run_command(main, f"checkpoint={checkpoint}", f"output={path}", f"with_mask={mask}") == 0
    session = onnxruntime.InferenceSession(path)
    assert [given.name for given in session.get_inputs()] == ["degraded", "noise", "mask"][: 2 + mask]
    restorer = Restorer.load(checkpoint)
    for size in SIZES:
        degraded, keys, noise, hole = example(size)
        inputs = {"degraded": degraded, "noise": noise, **({"mask": hole} if mask else {})}
        (restored,) = session.run(["restored"], {name: value.numpy() for name, value in inputs.items()})
        wanted = restorer.restore(degraded, keys, 1, mask=hole if mask else None).images
        assert (torch.from_numpy(restored) - wanted).abs().max() <= 1e-4
        assert (restored - degraded.numpy()).std() > 0.05  # not the input
        inputs["noise"] = torch.zeros_like(noise)
        (other,) = session.run(["restored"], {name: value.numpy() for name, value in inputs.items()})
        assert (abs(other - restored).max() > 0.01) == mask
    assert session.get_modelmeta().custom_metadata_map == {
        "stride": "16",
        "largest_side": "4096",
        "images": "RGB, 0 to 1",
    }
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_torch_export_gives_what_pytorch_gives(checkpoint: Path, tmp_path: Path):
    path = tmp_path / "photo.pt2"
    assert run_command(main, f"checkpoint={checkpoint}", f"output={path}") == 0
    program, restorer = torch.export.load(path).module(), Restorer.load(checkpoint)
    for size in SIZES[1:]:  # a side of a single stride is refused by PyTorch
        degraded, keys, noise, _ = example(size)
        restored = program(degraded=degraded, noise=noise)
        assert (restored - restorer.restore(degraded, keys, 1).images).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_a_transformer_is_exported_for_any_grid(tmp_path: Path, suffix: str):
    backbone = {"_target_": "restoration.backbone.DiT", "width": 32, "depth": 2, "heads": 2, "embedding": 16}
    estimator, path = {"_target_": "restoration.estimator.Identity"}, tmp_path / f"dit.{suffix}"
    checkpoint = write_random_checkpoint(tmp_path, backbone=backbone, estimator=estimator)
    assert run_command(main, f"checkpoint={checkpoint}", f"output={path}") == 0
    restorer = Restorer.load(checkpoint)
    for size in SIZES:
        degraded, keys, noise, _ = example(size)
        if suffix == "pt2":
            restored = torch.export.load(path).module()(degraded=degraded, noise=noise)
        else:
            session = pytest.importorskip("onnxruntime").InferenceSession(path)
            restored = torch.from_numpy(session.run(None, {"degraded": degraded.numpy(), "noise": noise.numpy()})[0])
        assert (restored - restorer.restore(degraded, keys, 1).images).abs().max() <= 1e-4
        assert (restored - degraded).std() > 0.05  # not the input


@pytest.mark.slow
def test_a_graph_steps_over_the_whole_interval(tmp_path: Path):
    """With sampler=mean_flow the noise has an effect, as it has in PyTorch."""
    parts = {
        "sampler": {"_target_": "restoration.sampler.MeanFlow"},
        "backbone": {**CLEAN["backbone"], "two_times": True},
        "source": {"_target_": "restoration.flow.Noise"},
    }
    restorer = Restorer.load(write_random_checkpoint(tmp_path, **parts))
    program, (degraded, keys, noise, _) = graph(restorer).module(), example(SIZES[1])
    restored = program(degraded=degraded, noise=noise)
    assert (restored - restorer.restore(degraded, keys, 1).images).abs().max() <= 1e-4
    assert (restored - program(degraded=degraded, noise=-noise)).abs().max() > 0.01


@pytest.mark.parametrize("size", [(1, 1), (16, 48), (40, 24)])
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_further_halvings_of_a_pixel_change_nothing(size: tuple[int, int], share: float, monkeypatch):
    images, known = torch.rand(2, 3, *size), (torch.rand(2, 1, *size) < share).float()
    filled = filling.fill(images, known)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert (filling.fill(images, known) - filled).abs().max() < 1e-6
    monkeypatch.setattr(filling, "EXPORTED_HALVINGS", 2)  # too few: the middle of a hole stays unfilled
    assert size == (1, 1) or share != 0.02 or (filling.fill(images, known) - filled).abs().max() > 1e-3


def test_a_missing_extra_is_one_line(checkpoint: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert run_command(main, f"checkpoint={checkpoint}", f"output={tmp_path}/photo.onnx") == 2
    assert complaint(capsys).endswith("photo.onnx needs onnx and onnxscript: pip install 'restoration[export]'")
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_traced_is_one_line(checkpoint: Path, monkeypatch):
    restorer = Restorer.load(checkpoint)
    monkeypatch.setattr("restoration.estimator.fill.EXPORTED_HALVINGS", 1)  # faster
    monkeypatch.setattr(restorer.source, "mean", lambda degraded, estimate: degraded * float(degraded.mean()))
    with pytest.raises(UserError, match=r"cannot be written as a graph \(.*\); share its weights instead") as caught:
        graph(restorer)
    assert "\n" not in str(caught.value)
