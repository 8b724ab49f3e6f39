"""The flow: its path, its source, its field, and the times it is trained at."""

from restoration.flow.field import ConditionalField, Field
from restoration.flow.path import column, interpolate, precondition, to_image, to_model
from restoration.flow.prediction import CleanPrediction, VelocityPrediction
from restoration.flow.source import Degraded, InitialEstimate, Noise, PosteriorMean, Source
from restoration.flow.time import LogitNormal, TimeSampler, Uniform

__all__ = [
    "CleanPrediction",
    "ConditionalField",
    "Degraded",
    "Field",
    "InitialEstimate",
    "LogitNormal",
    "Noise",
    "PosteriorMean",
    "Source",
    "TimeSampler",
    "Uniform",
    "VelocityPrediction",
    "column",
    "interpolate",
    "precondition",
    "to_image",
    "to_model",
]
