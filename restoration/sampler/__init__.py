"""Solvers of the flow's equation, one per file."""

from restoration.sampler.base import Sampler
from restoration.sampler.consistency import Consistency
from restoration.sampler.euler import Euler
from restoration.sampler.exponential import Exponential
from restoration.sampler.heun import Heun
from restoration.sampler.mean_flow import MeanFlow
from restoration.sampler.midpoint import Midpoint

__all__ = ["Consistency", "Euler", "Exponential", "Heun", "MeanFlow", "Midpoint", "Sampler"]
