"""Objectives: what training minimises."""

from restoration.objective.base import Objective, Term, TermValue
from restoration.objective.end_point import EndPoint
from restoration.objective.errors import (
    AdaptiveSquaredError,
    CharbonnierError,
    HuberError,
    LogSquaredError,
    PixelError,
    RegionLogSquaredError,
    SquaredError,
)
from restoration.objective.flow_matching import FlowMatching
from restoration.objective.interval import Intervals
from restoration.objective.interval_splitting import IntervalSplitting
from restoration.objective.mean_flow import MeanFlow
from restoration.objective.perceptual import PerceptualError
from restoration.objective.regression import Regression
from restoration.objective.trajectory import Trajectory

__all__ = [
    "AdaptiveSquaredError",
    "CharbonnierError",
    "EndPoint",
    "FlowMatching",
    "HuberError",
    "IntervalSplitting",
    "Intervals",
    "LogSquaredError",
    "MeanFlow",
    "Objective",
    "PerceptualError",
    "PixelError",
    "RegionLogSquaredError",
    "Regression",
    "SquaredError",
    "Term",
    "TermValue",
    "Trajectory",
]
