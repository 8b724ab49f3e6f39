"""The straight path from the source to the clean image, in the flow's space [−1, 1].

Time runs from the source at t = 0 to the clean image at t = 1 (Liu et al. 2023, "Flow straight and fast"; Lipman et
al. 2023, "Flow matching for generative modeling").
"""

import torch
from torch import Tensor

__all__ = ["clean_to_velocity", "interpolate", "precondition", "to_image", "to_model"]

# A predicted clean image says less and less of the velocity as t → 1; from here on the divisor is held.
_LAST = 0.05


def to_model(images: Tensor) -> Tensor:
    """[0, 1] → [−1, 1]."""
    return images * 2 - 1


def to_image(images: Tensor) -> Tensor:
    """[−1, 1] → [0, 1], clamped."""
    return ((images + 1) / 2).clamp(0, 1)


def _column(t: Tensor) -> Tensor:
    return t[:, None, None, None]


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t)·x_0 + t·x_1 for images (B, 3, H, W) and times (B,); its velocity is x_1 − x_0."""
    t = _column(t)
    return (1 - t) * x_0 + t * x_1


def clean_to_velocity(clean: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The velocity (x̂ − x_t) / max(1 − t, 0.05) of a predicted clean image x̂ (B, 3, H, W)."""
    return (clean - x_t) / (1 - _column(t)).clamp(min=_LAST)


def precondition(state: Tensor, t: Tensor, scale: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """What the state alone says of the residual x_1 − y, and how far off that is likely to be.

    The state t·(x_1 − y) + (1 − t)·σ·n is the residual under noise of level (1 − t)·σ / t. For a residual of
    standard deviation r the best linear guess multiplies by c_skip, and misses by c_out (Karras et al. 2022,
    "Elucidating the design space", table 1, with σ_data = r): at t = 0 the guess is 0 and the miss r, as t → 1 it is
    the state and (1 − t)·σ. Where r = 0 the answer is y at every t, so sampling leaves alone what is intact.

    Args:
        state: (B, 3, H, W).
        t: (B,).
        scale: r, (B, 1, H, W).
        sigma: of the source.

    Returns:
        The guess (B, 3, H, W) and the size of its error (B, 1, H, W).
    """
    t = _column(t)
    # σ = 0 (regression) is met as a limit; its one evaluation is at t = 0, where the value does not matter.
    noise = (1 - t) * max(sigma, 1e-3)
    total = (scale * t).square() + noise.square() + 1e-12
    return scale.square() * t / total * state, scale * noise / torch.sqrt(total)
