"""The module of a classifier: terms, regularisation, and what a network does with its rates."""

from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from restoration.batch import Batch
from restoration.classifier import Augmentation, Classifier, Full, LinearProbe, Resizing
from restoration.training.classification import ClassifierModule
from restoration.training.schedule import Cosine

VIT = {"img_size": 16, "patch_size": 4, "depth": 3, "embed_dim": 24, "num_heads": 3}


def module(transfer: Full | None = None, **options: Any) -> ClassifierModule:
    classifier, transfer = Classifier("test_resnet", ["a", "b", "c"]), transfer or Full()
    transfer.prepare(classifier.model)
    parts = {"loss": nn.CrossEntropyLoss(), "augmentation": Augmentation(), "optimizer": torch.optim.SGD}
    return ClassifierModule(classifier.eval(), **parts, schedule=Cosine(), config={}, transfer=transfer, **options)


def batch() -> Batch:
    clean, empty = torch.rand(4, 3, 32, 32), torch.zeros(4)
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    return Batch(clean, clean, mask, empty, torch.arange(4), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("transfer", [Full(), LinearProbe()], ids=["full", "probe"])
def test_l1_counts_every_weight_that_trains_once(transfer: Full):
    made, given = module(transfer, l1=0.5), batch()
    weights = [p for p in made.parameters() if p.requires_grad and p.ndim > 1]
    expected = 0.5 * sum(float(weight.detach().abs().sum()) for weight in weights)
    made.train()
    made.classifier.eval()  # the same batch statistics in both
    loss, terms = made.terms(given, torch.zeros(4, dtype=torch.int64))
    plain = made.loss(made.classifier(given.clean), given.label)
    assert float(terms["l1"]) == pytest.approx(expected, rel=1e-5)
    assert float(loss) == pytest.approx(float(plain) + expected, rel=1e-5)
    loss.backward()
    with_l1 = [weight.grad.clone() for weight in weights]
    made.zero_grad()
    plain.backward()
    for weight, gradient in zip(weights, with_l1, strict=True):
        torch.testing.assert_close(gradient - weight.grad, 0.5 * weight.sign(), atol=1e-5, rtol=1e-5)


def test_validation_has_no_l1_and_full_images():
    seen: list[int] = []
    made = module(l1=0.5, resizing=Resizing(start=0.5, until=1.0)).eval()
    made.classifier.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[-1]))
    assert made.terms(batch(), torch.zeros(4, dtype=torch.int64), 0.0)[1] == {}
    made.train()
    for progress in (0.0, 0.5, 1.0):
        made.terms(batch(), torch.zeros(4, dtype=torch.int64), progress)
    assert seen == [32, 16, 24, 32]


def test_rates_reach_the_layers():
    model = Classifier(
        "vit_tiny_patch16_224",
        ["a", "b"],
        options={**VIT, "drop_rate": 0.1, "attn_drop_rate": 0.2, "proj_drop_rate": 0.3, "drop_path_rate": 0.4},
    ).model
    rates = {name: layer.p for name, layer in model.named_modules() if isinstance(layer, nn.Dropout)}
    assert rates["head_drop"] == 0.1
    assert {rates[f"blocks.{n}.attn.attn_drop"] for n in range(3)} == {0.2}
    assert {rates[f"blocks.{n}.{name}"] for n in range(3) for name in ("attn.proj_drop", "mlp.drop1")} == {0.3}
    paths = [layer.drop_prob for layer in model.modules() if isinstance(layer, DropPath)]
    assert paths == pytest.approx([0.2, 0.2, 0.4, 0.4])  # the first block has none
    assert Classifier("test_resnet", ["a", "b"], options={"drop_rate": 0.25}).model.drop_rate == 0.25


def test_a_block_that_is_always_skipped_is_the_identity():
    block = Classifier("vit_tiny_patch16_224", ["a", "b"], options={**VIT, "drop_path_rate": 0.4}).model.blocks[-1]
    tokens = torch.randn(2, 17, 24)
    for path in (block.drop_path1, block.drop_path2):
        path.drop_prob = 1.0
        path.scale_by_keep = False
    assert torch.equal(block.train()(tokens), tokens)
    assert not torch.equal(block.eval()(tokens), tokens)
