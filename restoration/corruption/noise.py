"""Gaussian noise, sensor noise, salt and pepper. Pixel noise is drawn on the images' device, from the image's key."""

import torch
from torch import Tensor

from restoration.corruption.base import Operator, Parameters
from restoration.errors import NotNegative, Share
from restoration.keyed import fold, normal, uniform


class GaussianNoise(Operator):
    """Additive white Gaussian noise; the result is clipped to [0, 1].

    Args:
        sigma: standard deviation at severity 1, for images in [0, 1].
    """

    def __init__(self, sigma: NotNegative = 0.5) -> None:
        self.sigma = sigma

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {"sigma": severity * self.sigma, "key": fold(keys, "gaussian_noise")}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        sigma = parameters["sigma"].to(images.device)[:, None, None, None]
        noise = normal(parameters["key"].to(images.device), tuple(images.shape[1:]))
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        return (images + sigma * noise).clamp(0, 1), mask


class SensorNoise(Operator):
    """Noise as sensors have it: Gaussian, of a variance that grows with the intensity x.

    Its standard deviation is u·√(read² + shot²·x), the Gaussian approximation of photon and read noise (Foi et al.
    2008, "Practical Poissonian-Gaussian noise modeling"). The result is clipped to [0, 1].

    Args:
        read: of the read noise at severity 1, for images in [0, 1].
        shot: of the photon noise of a white pixel at severity 1.
    """

    def __init__(self, read: NotNegative = 0.05, shot: NotNegative = 0.15) -> None:
        self.read = read
        self.shot = shot

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {"factor": severity, "key": fold(keys, "sensor_noise")}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        factor = parameters["factor"].to(images.device)[:, None, None, None]
        sigma = factor * (self.read**2 + self.shot**2 * images).sqrt()
        noise = normal(parameters["key"].to(images.device), tuple(images.shape[1:]))
        mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
        return (images + sigma * noise).clamp(0, 1), mask


class SaltPepper(Operator):
    """Pixels replaced by black or white, half each, in all channels; they are the hole.

    Args:
        share: the share of replaced pixels at severity 1.
    """

    makes_hole = True

    def __init__(self, share: Share = 0.5) -> None:
        self.share = share

    def sample(self, severity: Tensor, keys: Tensor, size: tuple[int, int]) -> Parameters:
        return {"share": severity * self.share, "key": fold(keys, "salt_pepper")}

    def apply(self, images: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        share = parameters["share"].to(images.device)[:, None, None, None]
        draws = uniform(parameters["key"].to(images.device), height * width).view(-1, 1, height, width)
        mask = draws < share
        white = (draws < share / 2).float()
        return torch.where(mask, white, images), mask
