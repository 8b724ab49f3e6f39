"""Corruptions: the degradations that images are restored from."""

from restoration.corruption.base import Corruption, Operator, Parameters, Severity
from restoration.corruption.blur import Defocus, GaussianBlur, MotionBlur
from restoration.corruption.compose import OneOf, Sequence
from restoration.corruption.erase import BlockMask, Erase, Strokes
from restoration.corruption.jpeg import Jpeg
from restoration.corruption.noise import GaussianNoise, SaltPepper, SensorNoise

__all__ = [
    "BlockMask",
    "Corruption",
    "Defocus",
    "Erase",
    "GaussianBlur",
    "GaussianNoise",
    "Jpeg",
    "MotionBlur",
    "OneOf",
    "Operator",
    "Parameters",
    "SaltPepper",
    "SensorNoise",
    "Sequence",
    "Severity",
    "Strokes",
]
