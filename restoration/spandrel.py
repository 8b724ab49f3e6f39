"""Weights files in programs that open models through spandrel, such as ComfyUI.

spandrel finds an architecture by the names of the tensors, and reads its options from their shapes. It does not see a
file's metadata, so a weights file also holds its config as a tensor of bytes.
"""

import json
from typing import Any

import torch
from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor
from torch import Tensor

from restoration.restorer import Restorer
from restoration.trust import check_targets
from restoration.weights_file import CONFIG


class RestorationArchitecture(Architecture[Restorer]):
    """Restorers as spandrel's models: (1, 3, H, W) in [0, 1] to the same, blind, in one evaluation."""

    def __init__(self) -> None:
        super().__init__(id="restoration", detect=lambda state: CONFIG in state)

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[Restorer]:
        """UserError if the config names code that is not this project's."""
        state = {name: value.float() if value.is_floating_point() else value for name, value in state_dict.items()}
        config = json.loads(bytes(state.pop(CONFIG).tolist()))
        check_targets(config, origin="the model")
        return ImageModelDescriptor(
            Restorer.build(config, "checkpoint").eval(),
            state,
            architecture=self,
            purpose="Restoration",
            tags=[],
            supports_half=False,
            supports_bfloat16=False,
            scale=1,
            input_channels=3,
            output_channels=3,
            call_fn=_restore,
        )


def _restore(restorer: Restorer, image: Tensor) -> Tensor:
    return restorer.restore(image, torch.zeros(len(image), dtype=torch.int64, device=image.device), 1).images


def register() -> None:
    """Makes spandrel, in this process, open weights files of this project. It may be called again."""
    support = ArchSupport.from_architecture(RestorationArchitecture())
    # Before all others: some of those detect by a single name that a restorer might have too.
    first = tuple(other.architecture.id for other in MAIN_REGISTRY if other.architecture.id != "restoration")
    MAIN_REGISTRY.add(ArchSupport(support.architecture, support.detect, first), ignore_duplicates=True)
