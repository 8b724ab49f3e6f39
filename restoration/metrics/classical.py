"""Fillings of the hole without learning. They are told the true mask, which a blind restorer is not."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

__all__ = ["biharmonic_fill", "diffusion_fill", "mean_fill"]


def mean_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """The hole becomes the mean of the known pixels, per image and channel.

    Args:
        degraded: (B, 3, H, W) in [0, 1].
        mask: bool (B, 1, H, W), True in the hole. An image that is all hole stays as it is.

    Returns:
        float32 (B, 3, H, W); known pixels are untouched.
    """
    known = ~mask
    count = known.sum(dim=(2, 3), keepdim=True)
    mean = (degraded * known).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
    return torch.where(mask & (count > 0), mean, degraded)


@functools.lru_cache(maxsize=4)
def _laplacian(height: int, width: int) -> sparse.csr_array:
    """The graph Laplacian of the pixel grid: degree minus neighbours, so an edge of the image reflects."""

    def path(length: int) -> sparse.dia_array:
        ones = np.ones(length - 1)
        degree = np.full(length, 2.0)
        degree[[0, -1]] -= 1.0
        return sparse.diags_array([-ones, degree, -ones], offsets=[-1, 0, 1])

    rows, columns = sparse.eye_array(height), sparse.eye_array(width)
    return (sparse.kron(path(height), columns) + sparse.kron(rows, path(width))).tocsr()


def _harmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    height, width, _ = image.shape
    hole = hole.ravel()
    pixels = image.reshape(height * width, -1).astype(np.float64)
    equations = _laplacian(height, width)[np.flatnonzero(hole)]
    known, unknown = np.flatnonzero(~hole), np.flatnonzero(hole)
    inflow = -(equations[:, known] @ pixels[known])
    pixels[unknown] = spsolve(equations[:, unknown].tocsc(), inflow).reshape(len(unknown), -1)
    return pixels.reshape(image.shape)


def _biharmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return inpaint_biharmonic(image.astype(np.float64), hole, channel_axis=-1)


def _per_image(fill: Callable[[np.ndarray, np.ndarray], np.ndarray], degraded: Tensor, mask: Tensor) -> Tensor:
    """Runs fill((H, W, 3), (H, W)) on each image that has a hole and something around it."""
    filled = degraded.clone()
    holes = mask[:, 0].cpu().numpy()
    pictures = degraded.permute(0, 2, 3, 1).cpu().numpy()
    for i, hole in enumerate(holes):
        if hole.any() and not hole.all():
            result = fill(pictures[i], hole)
            filled[i] = torch.from_numpy(result).permute(2, 0, 1).to(filled).clamp(0.0, 1.0)
    return torch.where(mask, filled, degraded)


def diffusion_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """The hole becomes the harmonic function with the values around it: Laplace's equation, solved exactly.

    It never leaves the range of its border. About 4 ms per 64 px image with a 30 % hole on one core.

    Args:
        degraded: (B, 3, H, W) in [0, 1].
        mask: bool (B, 1, H, W), True in the hole.

    Returns:
        (B, 3, H, W) in [0, 1]; known pixels are untouched.
    """
    return _per_image(_harmonic, degraded, mask)


def biharmonic_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """scikit-image's biharmonic inpainting, which also continues the slope at the border of the hole.

    About 9 ms per 64 px image with a 30 % hole on one core. The strongest of the three in PSNR over all holes of
    blur_erase, although it overshoots in large ones. Arguments and result as `diffusion_fill`'s.
    """
    return _per_image(_biharmonic, degraded, mask)
