"""Corruptions: the degradations that images are restored from."""

from restoration.corruption.base import Corruption, Operator, Parameters
from restoration.corruption.blur import GaussianBlur, MotionBlur
from restoration.corruption.compose import OneOf, Sequence
from restoration.corruption.erase import BlockMask, Erase
from restoration.corruption.noise import GaussianNoise, SaltPepper

__all__ = [
    "BlockMask",
    "Corruption",
    "Erase",
    "GaussianBlur",
    "GaussianNoise",
    "MotionBlur",
    "OneOf",
    "Operator",
    "Parameters",
    "SaltPepper",
    "Sequence",
]
