"""How much of a classifier trains, from the weights it has."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from timm.models import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from restoration.errors import Count, Positive, Range, Share, UserError

Groups = dict[str, tuple[list[nn.Parameter], dict[str, Any]]]


class Full:
    """Everything trains. Base class of the others, which take a timm model too.

    Attributes:
        cached: whether the head trains on features that are computed once.
    """

    cached: ClassVar[bool] = False

    def prepare(self, model: nn.Module) -> None:
        """Sets what trains. The optimiser, the average and the compiler must see the model after this."""

    def finish(self, model: nn.Module) -> None:
        """Takes back what `prepare` added to the network; its outputs stay."""

    def parameter_groups(self, model: nn.Module) -> Groups:
        """Kernels and matrices; and vectors, positions and tokens, which are not decayed. Frozen ones are left out.

        Each group has the optimiser's options that differ for it, such as `lr_factor`, the factor on the learning rate.
        """
        split = param_groups_weight_decay(model, 1.0, no_weight_decay_list=_undecayed(model))
        found = {group["weight_decay"]: group["params"] for group in split}
        groups: Groups = {"weights": (found.get(1.0, []), {}), "vectors": (found.get(0.0, []), {"weight_decay": 0.0})}
        return {name: group for name, group in groups.items() if group[0]}


class LinearProbe(Full):
    """The last layer trains; the rest is frozen, with its batch statistics and without dropout."""

    def prepare(self, model: nn.Module) -> None:
        model.requires_grad_(False)
        head(model).requires_grad_(True)


class CachedFeatures(LinearProbe):
    """The linear probe on features that are computed once for each image, so without any variation of the images."""

    cached = True


class Partial(Full):
    """The last stages train (of a ViT: the last blocks), and the last layer.

    Args:
        stages: how many.

    Raises:
        UserError: in `prepare`, the model has fewer.
    """

    def __init__(self, stages: Count = 1) -> None:
        self.stages = stages

    def prepare(self, model: nn.Module) -> None:
        names = group_parameters(model, model.group_matcher(coarse=True))  # type: ignore[operator]
        own = {id(parameter) for parameter in head(model).parameters()}
        known = dict(model.named_parameters())
        below = [group for group in names.values() if any(id(known[name]) not in own for name in group)]
        if self.stages >= len(below):
            raise UserError(
                f"transfer.stages={self.stages}: the model has {len(below) - 1} above its stem; use transfer=full"
            )
        LinearProbe().prepare(model)
        for name in (name for group in below[-self.stages :] for name in group):
            known[name].requires_grad_(True)


class LayerDecay(Full):
    """Everything trains, each layer at a part of the learning rate of the one above (Clark et al. 2020, "ELECTRA").

    Args:
        decay: the part. The learning rate of the last layer is the optimiser's.
    """

    def __init__(self, decay: Annotated[float, Range(0, 0.999, above=True)] = 0.75) -> None:
        self.decay = decay

    def parameter_groups(self, model: nn.Module) -> Groups:
        groups: Groups = {}
        for group in param_groups_layer_decay(model, 1.0, _undecayed(model), layer_decay=self.decay):
            depth = round(math.log(group["lr_scale"]) / math.log(self.decay))  # layers below the last
            kind, options = ("weights", {}) if group["weight_decay"] else ("vectors", {"weight_decay": 0.0})
            groups[f"{kind}_{depth:02}"] = group["params"], {"lr_factor": group["lr_scale"], **options}
        return groups


class Lora(Full):
    """Low-rank changes of the frozen weights train, and the last layer (Hu et al. 2022, "LoRA"), by peft.

    Args:
        rank: of each change.
        alpha: changes are multiplied by alpha / rank.
        dropout: on the input of each change.
        targets: ends of the names of the layers that are changed; None: `qkv` of transformers, else all convolutions
            above the stem.

    Raises:
        UserError: in `prepare`, peft is not installed, or there are no such layers.
    """

    def __init__(
        self, rank: Count = 8, alpha: Positive = 16.0, dropout: Share = 0.0, targets: Sequence[str] | None = None
    ) -> None:
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    def prepare(self, model: nn.Module) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise UserError(
                f"transfer=lora needs peft ({error}): pip install 'restoration[lora]', or use another transfer"
            ) from error
        targets = list(self.targets) if self.targets is not None else _targets(model)
        shape: dict[str, Any] = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        try:
            inject_adapter_in_model(LoraConfig(**shape, target_modules=targets), model)
        except ValueError as error:  # no layer has such a name, or a layer is of a kind that has no such change
            raise UserError(f"transfer.targets={targets}: {str(error).splitlines()[0]}") from error
        head(model).requires_grad_(True)

    def finish(self, model: nn.Module) -> None:
        """Adds the changes to the weights."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge(safe_merge=True)
                model.set_submodule(name, layer.get_base_layer())


def head(model: nn.Module) -> nn.Module:
    """The last layer of a classifier of timm."""
    return model.get_classifier()  # type: ignore[operator, no-any-return]


def rest(module: nn.Module) -> None:
    """Puts the parts of a module that are frozen throughout into eval mode."""
    for child in module.children():
        trains = [parameter.requires_grad for parameter in child.parameters()]
        if trains and not any(trains):
            child.eval()
        else:
            rest(child)


def _undecayed(model: nn.Module) -> set[str]:
    return set(getattr(model, "no_weight_decay", set)())


def _targets(model: nn.Module) -> list[str]:
    attention = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "qkv" in name]
    return attention or list(_convolutions(model))


def _convolutions(model: nn.Module) -> Iterator[str]:
    groups = list(group_parameters(model, model.group_matcher(coarse=True)).values())  # type: ignore[operator]
    stem = set(groups[0])
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and f"{name}.weight" not in stem:
            yield name
