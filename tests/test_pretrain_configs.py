"""Every option of the groups that only `pretrain` has, as a user would choose it."""

from pathlib import Path

import pytest
import torch
from helpers import CONF, composed
from hydra.utils import instantiate
from torch import nn

from restoration.classifier import Augmentation, Classifier, Full, Resizing
from restoration.errors import UserError
from restoration.run.keys import check_keys, check_values, reference_config
from restoration.run.resolve import describe_run, resolve

OWN = CONF / "pretrain"
OPTIONS = sorted((path.parent.name, path.stem) for path in OWN.glob("*/*.yaml"))
CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true", "folder=run"]


@pytest.mark.parametrize("group, option", OPTIONS, ids=lambda name: name)
def test_every_option_composes_with_known_keys_and_says_when_to_use_it(group: str, option: str):
    lines = (OWN / group / f"{option}.yaml").read_text().splitlines()
    assert [line for line in lines if line != "# @package _global_"][0].startswith("# ")
    with composed("pretrain", f"{group}={option}", *CPU, config_dir=OWN) as config:
        check_keys(config, reference_config())
        check_values(config)
        describe_run(config)
        resolved = resolve(config)
    if group == "loss":
        logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
        made = instantiate(resolved["loss"])
        assert isinstance(made, nn.Module) and made(logits, labels).ndim == 0
        assert made(logits, torch.full((4, 3), 1 / 3)).ndim == 0  # as mixtures give them
    elif group == "augmentation":
        images, labels = instantiate(resolved["augmentation"])(torch.rand(4, 3, 16, 16), torch.arange(4), 4)
        assert images.shape == (4, 3, 16, 16) and len(labels) == 4
        assert isinstance(instantiate(resolved["augmentation"]), Augmentation)
    elif group in ("transfer", "resizing"):
        assert isinstance(instantiate(resolved[group]), Full if group == "transfer" else Resizing)
    elif group == "optimizer":
        classifier = Classifier("test_resnet", ["a", "b"])
        groups = [
            {"params": parameters, "name": name, **rest}
            for name, (parameters, rest) in Full().parameter_groups(classifier.model).items()
        ]
        optimizer = instantiate(resolved["optimizer"])(groups)
        decay = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
        assert decay["weights"] > 0 == decay["vectors"]
        counted = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        assert counted == sum(parameter.numel() for parameter in classifier.parameters())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny_patch16_224"])
def test_any_model_of_timm(name: str):
    options = {"img_size": 32, "patch_size": 4} if name.startswith("vit") else {}
    classifier = Classifier(name, list("abcde"), options={**options, "drop_path_rate": 0.1}).eval()
    with torch.no_grad():
        assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_weights_of_other_classes_give_all_but_the_last_layer(tmp_path: Path):
    first = Classifier("test_resnet", list("abc"))
    first.write(tmp_path / "first.safetensors")
    second = Classifier("test_resnet", list("abcd"), str(tmp_path / "first.safetensors"))
    for name, value in second.model.state_dict().items():
        same = name.startswith("fc.") or torch.equal(value, first.model.state_dict()[name])
        assert same, name
    with pytest.raises(UserError, match="do not fit resnet10t"):
        Classifier("resnet10t", list("abc"), str(tmp_path / "first.safetensors"))
