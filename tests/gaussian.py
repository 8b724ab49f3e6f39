"""A Gaussian world in which average velocities are known in closed form, as a backbone.

Given the degraded image y, the clean image is N(μ(y), τ²) in each pixel, and x_0 = m(y) + σ·n. On the path, x_t is
N(m_t, s_t²) with m_t = (1 − t)·m + t·μ and s_t² = t²·τ² + (1 − t)²·σ². The flow leads from x_t to
x_r = m_r + s_r / s_t · (x_t − m_t), so that

    u(x_t, t, r) = μ − m + ((r + t)·τ² − (2 − r − t)·σ²) / (s_t·(s_r + s_t)) · (x_t − m_t).
"""

import torch
from torch import Tensor, nn

from restoration.backbone import Backbone
from restoration.batch import Batch
from restoration.estimator import Estimate, Estimator
from restoration.flow import CleanPrediction, Source, to_image, to_model
from restoration.keyed import fold, normal
from restoration.restorer import Restorer
from restoration.sampler import MeanFlow, Sampler

TAU, INITIAL, STD = 0.1, 0.7, 0.3  # the estimate of the clean image and of its error need not be right


def posterior_mean(degraded: Tensor) -> Tensor:
    return 0.5 * degraded + 0.1


class Rough(Estimator):
    """An estimate that is off."""

    def forward(self, degraded: Tensor, mask: Tensor | None = None) -> Estimate:
        one = torch.ones_like(degraded[:, :1])
        return Estimate(INITIAL * degraded, STD * one, 0 * one)


class ExactMap(Backbone):
    """The exact output over any interval, plus a parameter that is 0 times its length."""

    two_times = True

    def __init__(self, source: Source, prediction: type) -> None:
        super().__init__()
        self.source, self.prediction = source, prediction
        self.off = nn.Parameter(torch.zeros(()))

    def encode(self, degraded: Tensor, estimate: Estimate) -> tuple[Tensor, Estimate]:
        return degraded, estimate

    def forward(self, x_in: Tensor, t: Tensor, features: tuple[Tensor, Estimate], r=None, noise=None) -> Tensor:
        (y, estimate), interval = features, r is not None
        t, r = (time[:, None, None, None] for time in (t, r if interval else t))
        sigma, m, mean = self.source.sigma(estimate), self.source.mean(y, estimate), posterior_mean(y)
        if interval:
            innovation = sigma * noise
        elif self.prediction is CleanPrediction:  # not known at t = 0, and without influence there
            signal = t * STD
            innovation = x_in * (signal**2 + ((1 - t) * sigma) ** 2) / signal.clamp(min=1e-12)
        else:
            innovation = x_in
        x_t = innovation + t * estimate.initial + (1 - t) * m
        s_t, s_r = (((time * TAU) ** 2 + ((1 - time) * sigma) ** 2).sqrt() for time in (t, r))
        gain = ((r + t) * TAU**2 - (2 - r - t) * sigma**2) / (s_t * (s_r + s_t))
        u = mean - m + gain * (x_t - (1 - t) * m - t * mean) + (r - t) * self.off
        if self.prediction is CleanPrediction:
            return (x_t + (1 - t) * u - estimate.initial) / STD
        return u - (estimate.initial - m)


def exact_map(source: Source, prediction: type = CleanPrediction, sampler: Sampler | None = None) -> Restorer:
    return Restorer(ExactMap(source, prediction), source, sampler or MeanFlow(), prediction, Rough())


def gaussian_batch(count: int = 16, size: int = 16) -> Batch:
    index = torch.arange(count)
    degraded = torch.linspace(0.25, 0.7, count)[:, None, None, None].expand(-1, 3, size, size).contiguous()
    clean = to_image(posterior_mean(to_model(degraded)) + TAU * normal(fold("clean", index), (3, size, size)))
    return Batch(clean, degraded, torch.zeros(count, 1, size, size, dtype=torch.bool), torch.zeros(count), index)
