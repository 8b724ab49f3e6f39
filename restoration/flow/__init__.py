"""The flow: its path, where it starts, what is predicted on it, when it is trained."""

from restoration.flow.path import clean_to_velocity, evidence, interpolate, to_image, to_model
from restoration.flow.prediction import Clean, Prediction, Velocity
from restoration.flow.source import Base, Degraded, Noise, PosteriorMean, Source
from restoration.flow.time import LogitNormal, TimeSampler, Uniform

__all__ = [
    "Base",
    "Clean",
    "Degraded",
    "LogitNormal",
    "Noise",
    "PosteriorMean",
    "Prediction",
    "Source",
    "TimeSampler",
    "Uniform",
    "Velocity",
    "clean_to_velocity",
    "evidence",
    "interpolate",
    "to_image",
    "to_model",
]
