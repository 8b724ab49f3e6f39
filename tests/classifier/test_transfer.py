"""What trains in each kind of transfer, of a convolutional network and a transformer."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.classifier import CachedFeatures, Classifier, Full, LayerDecay, LinearProbe, Lora, Partial
from restoration.classifier.features import FeatureCache
from restoration.errors import UserError

CLASSES = ["a", "b", "c"]
VIT = {"img_size": 16, "patch_size": 4, "depth": 4, "embed_dim": 24, "num_heads": 3}
NAMES = ["resnet18", "vit_tiny_patch16_224"]


def classifier(name: str, transfer: Full, **options: float) -> Classifier:
    torch.manual_seed(1)
    made = Classifier(name, CLASSES, options={**(VIT if name.startswith("vit") else {}), **options})
    transfer.prepare(made.model)
    return made.train()


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def trained(made: Classifier) -> set[str]:
    return {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}


def step(made: Classifier, transfer: Full) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state before and after a step of SGD."""
    before = copy.deepcopy(made.state_dict())
    groups = transfer.parameter_groups(made.model)
    optimizer = torch.optim.SGD([{"params": part} for part, _ in groups.values()], lr=0.1)
    nn.functional.cross_entropy(made(images()), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    return before, made.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_of_a_probe_the_last_layer_changes_alone(name: str):
    transfer = LinearProbe()
    made = classifier(name, transfer)
    last = "fc" if name == "resnet18" else "head"
    assert trained(made) == {f"{last}.weight", f"{last}.bias"}
    assert list(transfer.parameter_groups(made.model)) == ["weights", "vectors"]
    before, after = step(made, transfer)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {f"model.{last}.weight", f"model.{last}.bias"}  # no batch statistics


def test_frozen_parts_do_not_drop():
    """Of a probe the logits in training are those of evaluation; of a network that trains they are not."""
    same = [
        classifier("vit_tiny_patch16_224", kind, drop_path_rate=0.5, proj_drop_rate=0.5)
        for kind in (Full(), LinearProbe())
    ]
    whole, probe = (torch.equal(made(images()), made.eval()(images())) for made in same)
    assert probe and not whole


@pytest.mark.parametrize("name", NAMES)
def test_partial_trains_the_last_stages(name: str):
    made = classifier(name, Partial(2))
    begins = ("layer3.", "layer4.", "fc.") if name == "resnet18" else ("blocks.2.", "blocks.3.", "norm.", "head.")
    assert trained(made) == {key for key, _ in made.model.named_parameters() if key.startswith(begins)}
    before, after = step(made, Partial(2))
    changed = {key.removeprefix("model.") for key, value in after.items() if not torch.equal(value, before[key])}
    assert all(key.startswith(begins) for key in changed) and {key.split(".")[0] for key in changed} == {
        begin.split(".")[0] for begin in begins
    }
    with pytest.raises(UserError, match="transfer.stages=5: the model has 4 above its stem"):
        classifier(name, Partial(5))


@pytest.mark.parametrize("name", NAMES)
def test_layer_decay_is_a_power_of_the_depth(name: str):
    transfer = LayerDecay(0.5)
    made = classifier(name, transfer)
    names = {id(parameter): key for key, parameter in made.model.named_parameters()}
    found = {
        names[id(parameter)]: options["lr_factor"]
        for part, options in transfer.parameter_groups(made.model).values()
        for parameter in part
    }
    assert found.keys() == trained(made) == set(names.values())
    if name == "resnet18":  # stem, eight blocks, last layer
        expected = {
            "fc.weight": 1.0,
            "layer4.1.conv2.weight": 0.5,
            "layer4.0.conv1.weight": 0.25,
            "conv1.weight": 0.5**9,
        }
    else:  # stem, four blocks, last layer
        expected = {"head.weight": 1.0, "blocks.3.attn.qkv.weight": 0.5, "norm.bias": 0.5, "pos_embed": 0.5**5}
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_positions_and_tokens_are_not_decayed():
    groups = Full().parameter_groups(classifier("vit_tiny_patch16_224", Full()).model)
    assert groups["vectors"][1] == {"weight_decay": 0.0} and not groups["weights"][1]
    assert {parameter.ndim for parameter in groups["weights"][0]} == {2, 4}
    assert {parameter.shape[-1] for parameter in groups["vectors"][0] if parameter.ndim == 3} == {24}


@pytest.mark.parametrize("name", NAMES)
def test_lora_begins_as_the_network_and_ends_in_its_weights(name: str):
    pytest.importorskip("peft")
    transfer, plain = Lora(rank=2, alpha=4), classifier(name, Full()).eval()
    made = classifier(name, transfer)
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(images()), plain(images()))  # the second factor begins at 0
    count = sum(parameter.numel() for parameter in made.parameters() if parameter.requires_grad)
    head = 3 * (512 if name == "resnet18" else 24) + 3
    if name == "resnet18":
        layers = [
            layer for key, layer in plain.model.named_modules() if isinstance(layer, nn.Conv2d) and key != "conv1"
        ]
        assert len(layers) == 19
        change = sum(2 * (c.in_channels * c.kernel_size[0] * c.kernel_size[1] + c.out_channels) for c in layers)
    else:
        change = 4 * 2 * (24 + 72)  # in four blocks
    assert count == head + change
    before, after = step(made.train(), transfer)
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed and all("lora_" in key or key.startswith(("model.fc", "model.head")) for key in changed)
    with torch.no_grad():
        expected = made.eval()(images())
        transfer.finish(made.model)
        torch.testing.assert_close(made(images()), expected, atol=1e-5, rtol=1e-5)
    assert made.state_dict().keys() == plain.state_dict().keys()
    assert not torch.allclose(expected, plain(images()), atol=1e-4)


def test_lora_of_no_such_layer_is_one_line():
    pytest.importorskip("peft")
    with pytest.raises(UserError, match=r"transfer.targets=\['nothing'\]"):
        classifier("resnet18", Lora(targets=["nothing"]))


def test_lora_without_peft_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"transfer=lora needs peft .*pip install 'restoration\[lora\]'"):
        classifier("resnet18", Lora())


def batches(count: int, size: int) -> list[Batch]:
    """Images in an order that is not that of their indices."""
    index = torch.arange(count).flip(0) * 7
    empty = {"mask": torch.zeros(count, 1, 16, 16, dtype=torch.bool), "severity": torch.zeros(count), "index": index}
    parts = {"clean": images(count), "degraded": images(count), **empty, "label": index % 3}
    rows = range(0, count, size)
    return [Batch(**{key: value[row : row + size] for key, value in parts.items()}) for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_cached_features_train_as_the_probe(name: str):
    probe, cached = (classifier(name, kind) for kind in (LinearProbe(), CachedFeatures()))
    cache = FeatureCache(cached)
    optimizers = [torch.optim.SGD(made.model.get_classifier().parameters(), 0.5) for made in (probe, cached)]
    for visit, batch in enumerate([*batches(10, 4), *batches(10, 5) * 2]):  # later batches are others
        seen = batch.clean if visit < 3 else torch.zeros_like(batch.clean)  # is not looked at again
        for logits, optimizer in zip((probe(batch.clean), cache.logits(seen, batch.index)), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, batch.label).backward()
            optimizer.step()
    assert cached.training
    first, second = (made.model.get_classifier().weight for made in (probe, cached))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(first, classifier(name, LinearProbe()).model.get_classifier().weight, atol=1e-2)


def test_features_of_a_model_with_more_than_a_last_layer_are_refused():
    made = classifier("resnet18", CachedFeatures())
    made.model.get_classifier = lambda: nn.Identity()
    with pytest.raises(UserError, match="does more than one layer after its features"):
        FeatureCache(made).logits(images(), torch.arange(4))


def test_a_checkpoint_holds_its_transfer(tmp_path: Path):
    pytest.importorskip("peft")
    node = {"_target_": "restoration.classifier.Lora", "rank": 2}
    model = {"_target_": "restoration.classifier.Classifier", "name": "test_resnet", "classes": CLASSES}
    torch.manual_seed(1)
    made, transfer = Classifier("test_resnet", CLASSES), Lora(2)
    transfer.prepare(made.model)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if "lora_B" in key:
                parameter.normal_()
    state = {f"classifier.{key}": value for key, value in made.state_dict().items()}
    torch.save({"config": {"model": model, "transfer": node}, "state_dict": state}, tmp_path / "best.ckpt")
    loaded = Classifier.load(tmp_path / "best.ckpt")
    assert not any("lora" in key for key in loaded.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(loaded(images()), made.eval()(images()), atol=1e-4, rtol=1e-4)
