"""The encoder: weights from files, frozen statistics, measured strides, and clear errors."""

import argparse
import pickle
from pathlib import Path

import hostile
import pytest
import timm
import torch
from safetensors.torch import save_file

from restoration.backbone import Encoder
from restoration.backbone import pretrained as encoder_module
from restoration.errors import UserError


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    """A whole test_resnet whose batch statistics are not the initial ones."""
    torch.manual_seed(5)
    model = timm.create_model("test_resnet")
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)  # at about 1 no unit of the ReLUs would be active
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model


@pytest.fixture(params=[".safetensors", ".pth"])
def weights(request, tmp_path, classifier) -> Path:
    path = tmp_path / f"weights{request.param}"
    if request.param == ".pth":
        torch.save(classifier.state_dict(), path)
    else:
        save_file(classifier.state_dict(), path)
    return path


def test_a_local_file_fills_the_encoder(weights, classifier):
    loaded = Encoder("test_resnet", str(weights)).model.state_dict()
    full = classifier.state_dict()
    assert set(full) - set(loaded) == {"fc.weight", "fc.bias"} and set(loaded) <= set(full)
    assert all(torch.equal(value, full[name]) for name, value in loaded.items())


def test_images_are_normalised_as_the_model_was_trained(weights, classifier):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        deepest = Encoder("test_resnet", str(weights), "imagenet")(2 * images - 1)[-1]
        expected = classifier.eval().forward_features((images - 0.5) / 0.5)
    assert expected.std() > 0.01
    torch.testing.assert_close(deepest, expected, atol=1e-4, rtol=1e-4)
    default = Encoder(weights="random")
    black, white = (((value - default.mean) / default.std).flatten().tolist() for value in (-1, 1))
    assert black == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-4)
    assert white == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-4)


@pytest.mark.parametrize("model", ["test_convnext", "test_efficientnet", "test_vit"])
def test_a_classifiers_file_fills_the_encoder_of_any_family(model, tmp_path):
    """timm's feature wrappers rename modules: `stages.0` is `stages_0`, `blocks` are `model.blocks`."""
    classifier = timm.create_model(model).eval()
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    encoder = Encoder(model, str(tmp_path / "weights.safetensors"), "imagenet").eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        deepest = encoder(images)[-1]
        expected = classifier.forward_intermediates(
            (images - encoder.mean) / encoder.std, indices=1, intermediates_only=True
        )[0]
    torch.testing.assert_close(deepest, expected, atol=1e-4, rtol=1e-4)


def step(encoder: Encoder) -> None:
    """A training step in training mode."""
    encoder.train()
    optimizer = torch.optim.SGD(encoder.parameters(), 1e-2)
    sum(features.square().mean() for features in encoder(torch.randn(4, 3, 32, 32))).backward()
    optimizer.step()


def test_pretrained_batch_statistics_are_bit_identical_through_training(weights):
    encoder = Encoder("test_resnet", str(weights))
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    parameters = [parameter.clone() for parameter in encoder.parameters()]
    for _ in range(3):
        step(encoder)
    assert len(before) > 10
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    assert not all(torch.equal(old, new) for old, new in zip(parameters, encoder.parameters(), strict=True))
    # A parent in training mode puts the encoder into it, but not its batch norms.
    torch.nn.Sequential(encoder).train()
    assert encoder.training and not any(module.training for module in encoder.model.modules())


def test_an_encoder_with_random_weights_updates_its_statistics():
    encoder = Encoder("test_resnet", "random")
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers() if "running" in name}
    step(encoder)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers() if name in before)


def test_measuring_does_not_change_the_statistics_of_random_weights():
    fresh = timm.create_model("test_resnet", features_only=True)
    measured = Encoder("test_resnet", "random").model
    for name, buffer in fresh.named_buffers():
        assert torch.equal(buffer, measured.get_buffer(name)), name


@pytest.mark.parametrize("stem, strides", [("imagenet", [2, 4, 8, 16, 32]), ("no_pool", [2, 4, 8, 16])])
def test_strides_and_channels_match_the_maps(stem, strides):
    encoder = Encoder("test_resnet", "random", stem)
    assert encoder.strides == strides
    maps = encoder(torch.randn(1, 3, 64, 96))
    shapes = [tuple(features.shape[1:]) for features in maps]
    assert shapes == [(c, 64 // s, 96 // s) for c, s in zip(encoder.channels, strides, strict=True)]


def test_the_default_encoder_has_four_levels_at_twice_the_resolution():
    encoder = Encoder(weights="random")
    assert encoder.strides == [2, 4, 8, 16] and encoder.channels == [64, 128, 256, 512]


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        Encoder(*arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_a_missing_file_is_named_with_two_solutions(tmp_path):
    path = str(tmp_path / "none.safetensors")
    message = refused("test_resnet", path)
    assert path in message and "weights=FILE" in message and "weights=random" in message


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 50], ids=["empty", "page"])
def test_a_damaged_file_is_named(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert str(path) in refused("test_resnet", str(path))


def test_a_cut_off_file_is_named(weights):
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert str(weights) in refused("test_resnet", str(weights))


def test_weights_of_another_network_are_named(weights):
    message = refused("resnet10t", str(weights))
    assert str(weights) in message and "resnet10t" in message and "fit" in message


def test_weights_with_the_same_names_and_other_shapes_are_named(tmp_path, classifier):
    state = classifier.state_dict()
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1]
    torch.save(state, tmp_path / "grey.pth")
    message = refused("test_resnet", str(tmp_path / "grey.pth"))
    assert "grey.pth" in message and "conv1.0.weight" in message and "fit" in message


def test_a_file_without_weights_is_named(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    assert "fit" in refused("test_resnet", str(tmp_path / "other.pth"))


def test_an_unreachable_hub_ends_in_one_line(monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError()

    monkeypatch.setattr(encoder_module.timm, "create_model", unreachable)
    message = refused("resnet34", "a1_in1k")
    assert "resnet34" in message and "a1_in1k" in message and "weights=FILE" in message and "OSError" in message


@pytest.mark.parametrize(
    "model, reason",
    [
        ("swin_tiny_patch4_window7_224", "any size"),  # one size only
        ("test_mambaout", "(24, 32, 16)"),  # channels last
        ("inception_v3", "(64, "),  # convolutions without padding
    ],
)
def test_an_unsuitable_model_is_named_with_suitable_ones(model, reason):
    message = refused(model, "random", "imagenet")
    assert model in message and reason in message and "convnext_tiny" in message


def test_names_that_do_not_exist_are_refused():
    assert "resnet35" in refused("resnet35", "random")
    assert "stem='pool'" in refused("test_resnet", "random", "pool")
    assert "no max-pool" in refused("test_efficientnet", "random", "no_pool")


@pytest.mark.parametrize("form", ["plain", "inside", "legacy", "type error"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_a_weight_file_runs_nothing(form: str, suffix: str, tmp_path: Path, classifier: torch.nn.Module):
    canary = tmp_path / "canary"
    path, touch = tmp_path / f"weights{suffix}", hostile.Touch(canary)
    if form == "plain":
        path.write_bytes(hostile.pickled(canary).read_bytes())
    elif form == "type error":  # some versions of timm take it for an old PyTorch and load without protection
        path.write_bytes(pickle.dumps({"a": [1]}, protocol=2)[:-1] + b"NR.")
    else:
        content = {**classifier.state_dict(), "more": touch}
        torch.save(content, path, _use_new_zipfile_serialization=form == "inside")
    with pytest.raises(UserError, match=r"cannot be read \(\w+\); is it complete, and tensors only\?") as caught:
        Encoder("test_resnet", str(path))
    assert "\n" not in str(caught.value) and not canary.exists()


@pytest.mark.parametrize("held", ["state_dict", "model", "model_ema"])
def test_weights_inside_a_training_checkpoint_are_found(held: str, tmp_path: Path, classifier: torch.nn.Module):
    state = {f"module.{name}": value for name, value in classifier.state_dict().items()}
    arguments = argparse.Namespace(model="test_resnet", lr=0.1)
    torch.save({held: state, "epoch": 3, "args": arguments}, tmp_path / "weights.pth")
    loaded = Encoder("test_resnet", str(tmp_path / "weights.pth")).model.state_dict()
    assert all(torch.equal(value, classifier.state_dict()[name]) for name, value in loaded.items())


@pytest.mark.parametrize("model", ["hf-hub:someone/model", "local-dir:/tmp", "timm/resnet18", "hf_hub:a"])
@pytest.mark.parametrize("weights", ["random", "checkpoint", "a1_in1k"])
def test_a_model_is_a_name_of_timm(model: str, weights: str):
    with pytest.raises(UserError, match="give a name of timm"):
        Encoder(model, weights)
