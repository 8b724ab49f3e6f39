"""The interface of a corruption: random parameters, and the operator that uses them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from restoration.errors import Share, UserError
from restoration.keyed import fold, uniform

# Tensors whose first dimension is the image, on the CPU; compositions nest them by name.
Parameters = dict[str, Any]


@dataclass(frozen=True)
class Severity:
    """How the parts of a corruption draw their severities u.

    Each part draws u = s·U(0, 1) from its own keys, so no part says anything about another.

    Attributes:
        strength: s in [0, 1].
        fixed: u = s instead, and no part is left out.
        skip: probability that the part is left out of an image (u = 0).
        shared: (B,), the severity of all parts, as in version 1 of the protocol.
    """

    strength: float = 1.0
    fixed: bool = False
    skip: float = 0.0
    shared: Tensor | None = None

    def draw(self, keys: Tensor) -> Tensor:
        """The severities float32 (B,) of one part, from its keys (B,)."""
        if self.shared is not None:
            return self.shared
        if self.fixed:
            return torch.full((len(keys),), float(self.strength))
        draws = uniform(fold(keys, "severity"), 2)
        return self.strength * draws[:, 0] * (draws[:, 1] >= self.skip)


class Operator(ABC):
    """One kind of degradation.

    Constants in pixels are for 64-pixel images and scale with the shorter side (docs/protocol.md).

    Attributes:
        makes_hole: whether it erases content.
    """

    makes_hole: bool = False

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

    def draw(self, severity: Severity, keys: Tensor, size: tuple[int, int]) -> tuple[dict[str, Tensor], Parameters]:
        """Severities and parameters of each image.

        Returns:
            severities float32 (B,) by the name of the part, here one part without a name; the parameters of `apply`.
        """
        own = severity.draw(keys)
        return {"": own}, self.sample(own, keys, size)

    def hole_parts(self) -> set[str]:
        """Names of the parts that erase content, among those of `draw`."""
        return {""} if self.makes_hole else set()


class Corruption:
    """An operator and its strength, the one parameter that sweeps vary.

    Args:
        operator: the degradation.
        strength: s in [0, 1]; 0 is the identity.
        severity: distribution over images: "uniform" draws u = s·U(0, 1) for each part of each image, "fixed" sets
            u = s for all parts.
        protocol: version of docs/protocol.md; results of different versions are not comparable. In version 1 all parts
            share one severity, none is left out, and the result is not rounded to 8 bits.

    Raises:
        UserError: the strength is not a number in [0, 1], or another argument has no such value.
    """

    def __init__(
        self,
        operator: Operator,
        strength: Share = 1.0,
        severity: Literal["uniform", "fixed"] = "uniform",
        protocol: Literal[1, 2] = 2,
    ) -> None:
        if not isinstance(strength, int | float) or not 0 <= strength <= 1:
            raise UserError(f"corruption.strength={strength}: it must be a number in [0, 1]")
        if severity not in ("uniform", "fixed"):
            raise UserError(f"corruption.severity={severity!r}: choose uniform or fixed")
        if protocol not in (1, 2):
            raise UserError(f"corruption.protocol={protocol}: choose 1 or 2")
        self.operator = operator
        self.strength = strength
        self.severity = severity
        self.protocol = protocol

    def __call__(self, clean: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Degrade clean images (B, 3, H, W) in [0, 1]; the keys (B,), on the CPU, determine every draw.

        Returns:
            degraded (B, 3, H, W) in [0, 1], mask bool (B, 1, H, W), severity float32 (B,) on the images' device: the
            largest of the parts that keep the content, or that of the hole if nothing else is drawn.
        """
        severities, parameters = self.sample(keys, (clean.shape[-2], clean.shape[-1]))
        with torch.autocast(clean.device.type, enabled=False):
            degraded, mask = self.operator.apply(clean.float(), parameters)
        if self.protocol > 1:
            degraded = (degraded * 255).round() / 255  # as an image file would
        holes = self.operator.hole_parts()
        known = [severity for part, severity in severities.items() if part not in holes] or [*severities.values()]
        return degraded, mask, torch.stack(known).amax(0).to(clean.device)

    def sample(self, keys: Tensor, size: tuple[int, int]) -> tuple[dict[str, Tensor], Parameters]:
        """Severities float32 (B,) by part, and the operator's parameters, for images of this height and width."""
        severity = Severity(self.strength, self.severity == "fixed")
        if self.protocol == 1:
            severity = Severity(shared=severity.draw(keys))
        return self.operator.draw(severity, keys, size)

    def kinds(self, keys: Tensor, size: tuple[int, int]) -> list[str] | None:
        """Of each image the part that degrades it, "several" or "intact"; None if there is one part only."""
        severities, _ = self.sample(keys, size)
        if len(severities) == 1:
            return None
        names = [name.rpartition(".")[2] for name in severities]
        present = (torch.stack([*severities.values()]) > 0).T.tolist()
        found = [[name for name, there in zip(names, row, strict=True) if there] for row in present]
        return ["several" if len(parts) > 1 else "".join(parts) or "intact" for parts in found]
