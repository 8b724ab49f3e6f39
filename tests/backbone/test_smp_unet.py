"""The U-Net of segmentation_models_pytorch: the package's own outputs, and no flow."""

from pathlib import Path

import pytest
import torch
from helpers import TINY_DATA, TINY_RUN, run_command
from torch import nn

from restoration.backbone import Encoder, SmpUNet
from restoration.errors import UserError
from restoration.estimator import Identity
from restoration.train import main

smp = pytest.importorskip("segmentation_models_pytorch", reason="an extra, [benchmark]")


@torch.no_grad()
def test_it_is_the_packages_network():
    theirs = smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=3).eval()
    encoder = Encoder("resnet34", "random", "imagenet")
    ours = SmpUNet(encoder).eval()
    encoder.model.load_state_dict(theirs.encoder.state_dict())
    ours.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.head.load_state_dict(theirs.segmentation_head[0].state_dict())
    assert sum(map(nn.Parameter.numel, ours.parameters())) == sum(map(nn.Parameter.numel, theirs.parameters()))
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    features = ours.encode(images, Identity()(images, None))
    expected = theirs((images - encoder.mean) / encoder.std)
    assert torch.equal(ours(torch.zeros_like(images), torch.zeros(2), features), expected)


def test_both_stems_start_from_the_degraded_image():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for stem in ("imagenet", "no_pool"):
        network = SmpUNet(Encoder("resnet18", "random", stem))
        output = network(images, torch.zeros(2), network.encode(images, Identity()(images, None)))
        assert torch.equal(output, torch.zeros_like(images)) and 32 % network.stride == 0


def test_a_flow_is_refused():
    images = torch.zeros(1, 3, 32, 32)
    network = SmpUNet(Encoder("resnet18", "random", "imagenet")).eval()
    features = network.encode(images, Identity()(images, None))
    with pytest.raises(UserError, match="no input for the time: train it with experiment=blur_erase_mse"):
        network(images, torch.tensor([0.5]), features)


def test_an_encoder_without_a_map_at_half_resolution_is_refused():
    with pytest.raises(UserError, match=r"strides \[4, 8, 16, 32\]; its decoder needs 2, 4, 8"):
        SmpUNet(Encoder("convnext_atto", "random", "imagenet"))


@pytest.mark.slow
def test_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    network = ["backbone=smp_unet", "backbone.encoder.model=resnet18", "backbone.encoder.weights=random"]
    size = ["data.image_size=64", "trainer.max_steps=2"]
    assert run_command(main, "experiment=blur_erase_mse", *network, *TINY_DATA, *TINY_RUN, *size) == 0
