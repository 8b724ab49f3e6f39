"""Objectives: what training minimises."""

from restoration.objective.base import Objective, Term, TermValue
from restoration.objective.errors import (
    AdaptiveSquaredError,
    LogSquaredError,
    PixelError,
    RegionLogSquaredError,
    SquaredError,
)
from restoration.objective.flow_matching import FlowMatching
from restoration.objective.regression import Regression

__all__ = [
    "AdaptiveSquaredError",
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
