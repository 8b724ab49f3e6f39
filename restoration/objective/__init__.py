"""Objectives: what training minimises."""

from restoration.objective.base import (
    AdaptiveSquaredError,
    LogSquaredError,
    Objective,
    PixelError,
    RegionLogSquaredError,
    SquaredError,
    Term,
    TermValue,
)
from restoration.objective.damage import DamageSupervision
from restoration.objective.flow_matching import FlowMatching
from restoration.objective.regression import Regression

__all__ = [
    "AdaptiveSquaredError",
    "DamageSupervision",
    "FlowMatching",
    "LogSquaredError",
    "Objective",
    "PixelError",
    "RegionLogSquaredError",
    "Regression",
    "SquaredError",
    "Term",
    "TermValue",
]
