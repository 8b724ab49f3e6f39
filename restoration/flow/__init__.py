"""The flow: its path, where it starts, when it is trained."""

from restoration.flow.path import clean_to_velocity, evidence, interpolate, to_image, to_model
from restoration.flow.source import Degraded, Noise, PosteriorMean, Source
from restoration.flow.time import LogitNormal, TimeSampler, Uniform

__all__ = [
    "Degraded",
    "LogitNormal",
    "Noise",
    "PosteriorMean",
    "Source",
    "TimeSampler",
    "Uniform",
    "clean_to_velocity",
    "evidence",
    "interpolate",
    "to_image",
    "to_model",
]
