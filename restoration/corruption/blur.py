"""Motion, Gaussian and defocus blur: one kernel per image, one grouped convolution per batch."""

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from restoration.corruption.base import Operator, Parameters
from restoration.errors import NotNegative
from restoration.keyed import fold, uniform

# The kernel is 19×19 at 64 pixels.
_RADIUS_PER_PIXEL = 9 / 64
_LARGE = 36  # radius of the kernel of a 256-pixel image: above it, a sum over the kernel takes seconds to minutes


class Blur(Operator):
    """Convolution with one kernel per image, by FFT if large; the border reflects without repeating the edge pixel."""

    @abstractmethod
    def kernels(self, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        """Unnormalised kernels (B, k, k) at the offsets x, y (k, k), pixels, y pointing down."""

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        batch, _, height, width = images.shape
        radius = math.ceil(min(height, width) * _RADIUS_PER_PIXEL)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernels = self.kernels(parameters, offsets[None, :], offsets[:, None])
        kernels = (kernels / kernels.sum(dim=(1, 2), keepdim=True)).to(images.device)
        padded = F.pad(images, (radius,) * 4, mode="reflect")
        if radius > _LARGE:
            spectrum = torch.fft.rfft2(kernels.flip(1, 2), s=padded.shape[-2:])[:, None]
            blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=padded.shape[-2:])
            blurred = blurred[..., 2 * radius :, 2 * radius :]
        else:
            # Images are moved to the channel dimension: each group of the convolution is one image.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                blurred = F.conv2d(padded.transpose(0, 1), kernels[:, None], groups=batch).transpose(0, 1)
        mask = torch.zeros(batch, 1, height, width, dtype=torch.bool, device=images.device)
        # Rounding in the sum can exceed [0, 1] by an ulp.
        return blurred.clamp(0, 1).contiguous(), mask


class MotionBlur(Blur):
    """Linear motion blur: the image moves along a straight segment at constant speed.

    Args:
        length: the segment's length at severity 1, pixels of a 64-pixel image.
    """

    def __init__(self, length: NotNegative = 14.0) -> None:
        self.length = length

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        angle = uniform(fold(keys, "motion"), 1)[:, 0] * math.pi
        return {"length": severity * (self.length * min(size) / 64), "angle": angle}

    def kernels(self, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        """Weight max(0, 1 − distance to the centred segment along (cos θ, sin θ))."""
        cos, sin = parameters["angle"].cos()[:, None, None], parameters["angle"].sin()[:, None, None]
        half = parameters["length"][:, None, None] / 2
        along = x * cos + y * sin
        across = y * cos - x * sin
        beyond = (along.abs() - half).clamp(min=0)
        weight = (1 - torch.hypot(beyond, across)).clamp(min=0)
        # At length 0 the neighbours are at distance 1 up to rounding; only the centre has a weight.
        return torch.where((half > 0) | ((x == 0) & (y == 0)), weight, 0.0)


class GaussianBlur(Blur):
    """Isotropic Gaussian blur.

    Args:
        sigma: the kernel's standard deviation at severity 1, pixels of a 64-pixel image.
    """

    def __init__(self, sigma: NotNegative = 3.0) -> None:
        self.sigma = sigma

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {"sigma": severity * (self.sigma * min(size) / 64)}

    def kernels(self, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        # At σ = 0 all weights except the centre's underflow to 0: the identity.
        sigma = parameters["sigma"].clamp(min=1e-3)[:, None, None]
        return torch.exp(-(x.square() + y.square()) / (2 * sigma.square()))


class Defocus(Blur):
    """Blur of a lens out of focus: a disc with an antialiased edge.

    Args:
        radius: of the disc at severity 1, pixels of a 64-pixel image.
    """

    def __init__(self, radius: NotNegative = 5.0) -> None:
        self.radius = radius

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {"radius": severity * (self.radius * min(size) / 64)}

    def kernels(self, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        """Weight max(0, min(1, radius + ½ − distance to the centre))."""
        return (parameters["radius"][:, None, None] + 0.5 - torch.hypot(x, y)).clamp(0, 1)
