"""Features of training images, computed once."""

from collections.abc import Iterable

import torch
from torch import Tensor

from restoration.classifier.model import Classifier
from restoration.classifier.transfer import head
from restoration.errors import UserError


class FeatureCache:
    """What the last layer of a frozen classifier sees of each image, in memory on its device.

    Args:
        classifier: its last layer may train; the rest stays as it is.
        batches: images (B, 3, H, W) in [0, 1] without variation, and their indices int64 (B,), of all images.

    Raises:
        UserError: the model does more than one layer after its features.
    """

    @torch.no_grad()
    def __init__(self, classifier: Classifier, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._head = head(classifier.model)
        was, parts, indices = classifier.training, [], []
        classifier.eval()
        for images, index in batches:
            parts.append(classifier.features(images))
            indices.append(index)
            if len(parts) == 1:
                expected = classifier(images)
                found = self._head(parts[0]).float()
                if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3, rtol=1e-3):
                    raise UserError(
                        f"transfer=cached_features: {classifier.name} does more than one layer after its features; use "
                        "transfer=linear_probe"
                    )
        classifier.train(was)
        index, order = torch.cat(indices).sort()
        self._index, self._features = index, torch.cat(parts)[order]

    def logits(self, index: Tensor) -> Tensor:
        """Logits float32 (B, C) of the images with these indices, int64 (B,)."""
        return self._head(self._features[torch.searchsorted(self._index, index)]).float()
