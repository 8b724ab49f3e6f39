"""Gaussian noise, and salt and pepper. Pixel noise is drawn on the images' device, from the image's key."""

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


class SaltPepper(Operator):
    """Pixels replaced by black or white, half each, in all channels; they are the hole.

    Args:
        share: the share of replaced pixels at severity 1.
    """

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
