"""The classifier: any network of timm, its losses, and the augmentation of its images."""

from restoration.classifier.augmentation import Augmentation
from restoration.classifier.loss import Focal
from restoration.classifier.model import Classifier

__all__ = ["Augmentation", "Classifier", "Focal"]
