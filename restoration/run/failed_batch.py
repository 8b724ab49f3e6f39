"""Repeats the step at which a training stopped, and names the first module whose output is not finite.

python -m restoration.run.failed_batch outputs/blur_erase/first/failed_batch.pt
"""

import argparse
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.checkpoint_file import DamagedFileError, broken, load
from restoration.errors import UserError
from restoration.restorer import GROUPS, Restorer
from restoration.run.command import command
from restoration.run.hardware import autocast_dtype, usable_device
from restoration.training.classification import ClassifierModule
from restoration.training.module import RestorationModule, TrainingModule
from restoration.training.schedule import Cosine
from restoration.trust import check_targets


def repeat(path: str, device: torch.device, trust: Any = None) -> list[str]:
    """What is not finite in the step: a weight, the first output of a module, and the gradient of an operation.

    Raises:
        UserError: the file is missing or damaged, or names code that is not trusted.
    """
    try:
        dump = load(path)
        groups = ("model", "loss", "augmentation") if "model" in dump["config"] else (*GROUPS, "objective")
        values, config = dump["batch"], {name: dump["config"][name] for name in groups}
        config |= {name: dump["config"][name] for name in ("transfer", "resizing") if name in dump["config"]}
    except (OSError, DamagedFileError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is not a failed_batch.pt, or is damaged ({reason})") from error
    check_targets(config, trust, path)
    parts = _module(config)
    parts.load_state_dict(dump["state_dict"])
    parts.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    moved: dict[str, Any] = {n: value.to(device) if isinstance(value, Tensor) else value for n, value in values.items()}
    batch = Batch(**moved)
    found = [f"the weight {name} is not finite"] if (name := broken(dump)) else []
    seen: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                seen.append(f"the output of {name} ({type(module).__name__}) is not finite")

        return hook

    for name, module in parts.named_modules():
        module.register_forward_hook(watch(name))
    dtype = autocast_dtype(dump["precision"])
    with torch.autograd.set_detect_anomaly(True):
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss, terms = parts.terms(batch, dump["keys"].to(device), dump["progress"])
        found += seen[:1]
        figures = {"loss": loss.detach(), **terms}
        try:
            loss.backward()
            gradients = [p.grad for p in parts.parameters() if p.grad is not None]
            figures["gradient norm"] = torch.nn.utils.get_total_norm(gradients)
        except RuntimeError as error:  # of the anomaly detection
            found.append(f"gradient: {error}".splitlines()[0])
    said = ", ".join(f"{name} {float(value):.6g}" for name, value in figures.items())
    return [f"step {dump['step']}, {len(batch)} images: {said}", *(found or ["all outputs and gradients are finite"])]


def _module(config: dict[str, Any]) -> TrainingModule:
    """The module of a config, without an optimiser's settings."""
    rest: Any = {"optimizer": torch.optim.AdamW, "schedule": Cosine(), "config": config}
    if "model" in config:
        classifier = instantiate({**config["model"], "weights": "checkpoint"})
        transfer, resizing = (instantiate(config.get(name)) for name in ("transfer", "resizing"))
        if transfer is not None:
            transfer.prepare(classifier.model)
        loss, augmentation = (instantiate(config[name]) for name in ("loss", "augmentation"))
        return ClassifierModule(classifier, loss, augmentation, transfer=transfer, resizing=resizing, **rest)
    return RestorationModule(Restorer.build(config, "checkpoint"), instantiate(config["objective"]), **rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="failed_batch.pt of a run")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda to repeat it as on the GPU")
    parser.add_argument("--trust", action="append", help="a package of yours whose code the run uses")
    given = parser.parse_args()
    print("\n".join(repeat(given.file, usable_device(given.device), given.trust)))


if __name__ == "__main__":
    command(main)()
