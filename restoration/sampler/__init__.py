"""Solvers of the flow's equation, one to a file."""

from restoration.sampler.base import Sampler, Velocity
from restoration.sampler.euler import Euler
from restoration.sampler.exponential import Exponential
from restoration.sampler.heun import Heun
from restoration.sampler.midpoint import Midpoint

__all__ = ["Euler", "Exponential", "Heun", "Midpoint", "Sampler", "Velocity"]
