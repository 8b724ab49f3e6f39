"""The interface of a corruption: random parameters, and the operator that uses them."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from restoration.errors import Share, UserError
from restoration.keyed import fold, uniform

# Tensors whose first dimension is the image, on the CPU; compositions nest them by name.
Parameters = dict[str, Any]


class Operator(ABC):
    """One kind of degradation.

    Constants in pixels are for 64-pixel images and scale with the shorter side (docs/protocol.md).
    """

    @abstractmethod
    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        """Draw the parameters of each image.

        Args:
            severity: float32 (B,) in [0, 1]; 0 must give the identity.
            keys: int64 (B,), one per image, on the CPU; every draw is a function of them.
            size: height and width of the images, pixels.

        Returns:
            Parameters of `apply`, in pixels of these images.
        """

    @abstractmethod
    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Degrade float32 images (B, 3, H, W) in [0, 1].

        Returns:
            The degraded images, same shape and range, and the hole: bool (B, 1, H, W), True where erased.
        """

    def kinds(self, parameters: Parameters) -> list[str] | None:
        """The kind of degradation of each of the B images; None if the operator has only one kind."""
        return None


class Corruption:
    """An operator and its strength, the one parameter that sweeps vary.

    Args:
        operator: the degradation.
        strength: s in [0, 1]; 0 is the identity.
        severity: its distribution over images: "uniform" draws u = s·U(0, 1) per image, "fixed" sets u = s.

    Raises:
        UserError: the strength is not a number in [0, 1], or the severity is neither.
    """

    def __init__(
        self, operator: Operator, strength: Share = 1.0, severity: Literal["uniform", "fixed"] = "uniform"
    ) -> None:
        if not isinstance(strength, int | float) or not 0 <= strength <= 1:
            raise UserError(f"corruption.strength={strength}: it must be a number in [0, 1]")
        if severity not in ("uniform", "fixed"):
            raise UserError(f"corruption.severity={severity!r}: choose uniform or fixed")
        self.operator = operator
        self.strength = strength
        self.severity = severity

    def __call__(self, clean: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Degrade clean images (B, 3, H, W) in [0, 1]; the keys (B,), on the CPU, determine every draw.

        Returns:
            degraded (B, 3, H, W) in [0, 1], mask bool (B, 1, H, W), severity float32 (B,) on the images' device.
        """
        severity, parameters = self.sample(keys, (clean.shape[-2], clean.shape[-1]))
        with torch.autocast(clean.device.type, enabled=False):
            degraded, mask = self.operator.apply(clean.float(), parameters)
        return degraded, mask, severity.to(clean.device)

    def sample(self, keys: Tensor, size: tuple[int, int]) -> tuple[Tensor, Parameters]:
        """Severity float32 (B,) and the operator's parameters, for images of this height and width."""
        severity = torch.full((len(keys),), float(self.strength))
        if self.severity == "uniform":
            severity = severity * uniform(fold(keys, "severity"), 1)[:, 0]
        return severity, self.operator.sample(severity, keys, size)

    def kinds(self, keys: Tensor, size: tuple[int, int]) -> list[str] | None:
        """The kind of degradation of each image (`Operator.kinds`)."""
        return self.operator.kinds(self.sample(keys, size)[1])
