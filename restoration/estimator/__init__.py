"""Estimators of the degradation: where the image is damaged, and by how much."""

from restoration.estimator.base import Estimate, Estimator, Identity
from restoration.estimator.blind import Blind, known_statistics
from restoration.estimator.pyramid import large_holes

__all__ = ["Blind", "Estimate", "Estimator", "Identity", "known_statistics", "large_holes"]
