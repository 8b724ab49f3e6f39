"""The straight path from the source to the clean image, in the flow's space [−1, 1].

Time runs from the source at t = 0 to the clean image at t = 1 (Liu et al. 2023, "Flow straight and fast"; Lipman et
al. 2023, "Flow matching for generative modeling").
"""

from torch import Tensor

__all__ = ["clean_to_velocity", "evidence", "interpolate", "to_image", "to_model"]


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


def clean_to_velocity(clean: Tensor, x_t: Tensor, t: Tensor, floor: float = 5e-4) -> Tensor:
    """The velocity (x̂ − x_t) / max(1 − t, floor) of a predicted clean image x̂ (B, 3, H, W) at times t (B,).

    A predicted clean image says less and less of the velocity as t → 1; there the divisor is held: for sampling only
    beyond what 1000 evaluations ask for, so that every trajectory arrives; in a loss, earlier.
    """
    return (clean - x_t) / (1 - _column(t)).clamp(min=floor)


def evidence(innovation: Tensor, scale: Tensor, t: Tensor, deviation: Tensor) -> Tensor:
    """What x_t tells, pixel by pixel, of the clean image beyond an estimate of it, in units of that estimate's error.

    The innovation of x_t is t·(x_1 − base) + (1 − t)·σ·n. The best linear estimate of x_1 − base, for an error of
    standard deviation s, is t·s² / (t²·s² + (1 − t)²·σ²) times that (Wiener's filter), and here it is divided by s:
    nothing at t = 0, where x_t holds noise only and the answer must not depend on it; (x_1 − base) / s at t = 1; and
    nearly nothing, until late, where the base is nearly right, so that no noise is carried there.

    Args:
        innovation: (B, 3, H, W), x_t less what was known beforehand, t·base + (1 − t)·mean(x_0).
        scale: (B, 1, H, W), s.
        t: (B,).
        deviation: (B, 1, H, W), σ, the standard deviation of the source's noise.
    """
    t = _column(t)
    signal, noise = t * scale, (1 - t) * deviation
    return innovation * (signal / (signal.square() + noise.square()).clamp(min=1e-12))
