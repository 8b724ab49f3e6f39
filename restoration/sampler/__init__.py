"""Solvers of the flow's equation, one to a file."""

from restoration.sampler.adams_bashforth import AdamsBashforth2
from restoration.sampler.base import Sampler, Velocity
from restoration.sampler.euler import Euler
from restoration.sampler.heun import Heun
from restoration.sampler.midpoint import Midpoint

__all__ = ["AdamsBashforth2", "Euler", "Heun", "Midpoint", "Sampler", "Velocity"]
