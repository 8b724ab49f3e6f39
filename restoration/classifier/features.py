"""Features of training images, computed once."""

import torch
from torch import Tensor

from restoration.classifier.model import Classifier
from restoration.classifier.transfer import head
from restoration.errors import UserError


class FeatureCache:
    """What the last layer of a frozen classifier sees of each image, from the first visit on, in memory on its device.

    Args:
        classifier: its last layer may train; the rest stays as it is.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier, self._head = classifier, head(classifier.model)
        self._known: dict[int, Tensor] = {}  # (D,) by image index

    def logits(self, images: Tensor, index: Tensor) -> Tensor:
        """Logits float32 (B, C).

        Args:
            images: (B, 3, H, W) in [0, 1], without variation.
            index: int64 (B,), of the images.

        Raises:
            UserError: the model does more than one layer after its features.
        """
        indices = index.tolist()
        if new := [place for place, image in enumerate(indices) if image not in self._known]:
            found = self._features(images[new])
            self._known |= {indices[place]: row for place, row in zip(new, found, strict=True)}
        return self._head(torch.stack([self._known[image] for image in indices])).float()

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        was = self._classifier.training
        self._classifier.eval()
        features = self._classifier.features(images)
        if not self._known:
            expected, found = self._classifier(images), self._head(features).float()
            if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3, rtol=1e-3):
                raise UserError(
                    f"transfer=cached_features: {self._classifier.name} does more than one layer after its features; "
                    "use transfer=linear_probe"
                )
        self._classifier.train(was)
        return features
