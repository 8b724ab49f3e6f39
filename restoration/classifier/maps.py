"""The feature maps of a classifier, as an encoder gives them."""

from typing import Any

from torch import Tensor, nn

from restoration.classifier.model import Classifier
from restoration.errors import UserError


class FeatureMaps(nn.Module):
    """What a classifier sees at every resolution, finest first: the deepest map of each, as `backbone.Encoder` has it.

    A transformer has one resolution, so one map.

    Args:
        classifier: of a model whose maps timm can give.

    Raises:
        UserError: it cannot.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        if not hasattr(classifier.model, "forward_intermediates"):
            raise UserError(f"{classifier.name} does not give its feature maps")
        self.classifier = classifier

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) of images (B, 3, H, W) in [−1, 1]."""
        model: Any = self.classifier.model
        seen = ((images + 1) / 2 - self.classifier.mean) / self.classifier.std
        deepest = {tuple(each.shape[2:]): each for each in model.forward_intermediates(seen, intermediates_only=True)}
        return list(deepest.values())
