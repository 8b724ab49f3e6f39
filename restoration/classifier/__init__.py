"""The classifier: any network of timm, how much of it trains, its losses, and the augmentation of its images."""

from restoration.classifier.augmentation import Augmentation, Restored
from restoration.classifier.ensemble import Ensemble
from restoration.classifier.loss import Focal
from restoration.classifier.model import Classifier
from restoration.classifier.resizing import Resizing
from restoration.classifier.transfer import CachedFeatures, Full, LayerDecay, LinearProbe, Lora, Partial

__all__ = [
    "Augmentation",
    "CachedFeatures",
    "Classifier",
    "Ensemble",
    "Focal",
    "Full",
    "LayerDecay",
    "LinearProbe",
    "Lora",
    "Partial",
    "Resizing",
    "Restored",
]
