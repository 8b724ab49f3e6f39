"""Several classifiers as one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from restoration.classifier.model import Classifier
from restoration.errors import UserError


class Ensemble(nn.Module):
    """Answers with the mean of its members' probabilities (Lakshminarayanan et al. 2017, "Deep ensembles").

    Args:
        members: one or more, in eval mode, on one device.

    Attributes:
        classes: names of the classes, in the order of the labels.

    Raises:
        UserError: the members do not know the same classes.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.classes = members[0].classes
        for number, member in enumerate(members[1:], 2):
            if member.classes != self.classes:
                known, other = shown_classes(self.classes), shown_classes(member.classes)
                raise UserError(
                    f"the classifiers of an ensemble must know the same classes: number {number} knows {other}, "
                    f"number 1 knows {known}; leave one out"
                )

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, float32 (B, C), from images (B, 3, H, W) in [0, 1].

        They are logits: their softmax is the mean probabilities.
        """
        logs = torch.stack([member(images).log_softmax(dim=1) for member in self.members])
        return logs.logsumexp(dim=0) - math.log(len(logs))


def shown_classes(names: Sequence[str]) -> str:
    """How many classes there are, and the first three."""
    return f"{len(names)} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
