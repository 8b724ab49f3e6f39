"""The straight path from the source to the clean image, in the flow's space [−1, 1].

Time runs from the source at t = 0 to the clean image at t = 1 (Liu et al. 2023, "Flow straight and fast"; Lipman et
al. 2023, "Flow matching for generative modeling").
"""

import torch
from torch import Tensor


def to_model(images: Tensor) -> Tensor:
    """[0, 1], or uint8 in 0 … 255, → [−1, 1]."""
    if images.dtype == torch.uint8:
        images = images.float().div_(255)
    return images * 2 - 1


def to_image(images: Tensor) -> Tensor:
    """[−1, 1] → [0, 1], clamped."""
    return ((images + 1) / 2).clamp(0, 1)


def column(t: Tensor) -> Tensor:
    """Times (B,) as (B, 1, 1, 1), to multiply images with."""
    return t[:, None, None, None]


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t)·x_0 + t·x_1 for images (B, 3, H, W) and times (B,); its velocity is x_1 − x_0."""
    t = column(t)
    return (1 - t) * x_0 + t * x_1


def precondition(innovation: Tensor, residual_std: Tensor, t: Tensor, sigma: Tensor) -> Tensor:
    """The preconditioned input: what x_t tells about the residual x_1 − initial, in units of the residual std.

    The innovation of x_t is t·(x_1 − initial) + (1 − t)·σ·n. For a residual of standard deviation s, its best linear
    estimate is t·s² / (t²·s² + (1 − t)²·σ²) times the innovation (Wiener filter), divided here by s. It is 0 at t = 0,
    where x_t is only noise and the output must not depend on it; (x_1 − initial) / s at t = 1; and small until late
    where the initial estimate is nearly exact, so that no noise is passed on there.

    Args:
        innovation: (B, 3, H, W), x_t − t·initial − (1 − t)·mean of x_0.
        residual_std: (B, 1, H, W), s.
        t: (B,).
        sigma: (B, 1, H, W), σ, the standard deviation of the source's noise.
    """
    t = column(t)
    signal, noise = t * residual_std, (1 - t) * sigma
    return innovation * (signal / (signal.square() + noise.square()).clamp(min=1e-12))
