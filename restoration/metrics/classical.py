"""Classical inpainting of the hole. It uses the true mask, which a blind restorer does not have.

Every fill takes degraded images (B, 3, H, W) in [0, 1] and a bool mask (B, 1, H, W), True in the hole, and returns
images in [0, 1]. Known pixels do not change, nor does an image that is all hole.
"""

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
    """Fills the hole with the mean of the known pixels, per image and channel."""
    known = ~mask
    count = known.sum(dim=(2, 3), keepdim=True)
    mean = (degraded * known).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
    return torch.where(mask & (count > 0), mean, degraded)


@functools.lru_cache(maxsize=4)
def _laplacian(height: int, width: int) -> sparse.csr_array:
    """The graph Laplacian of the pixels: degree minus neighbours, which reflects at the border of the image."""

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
    right_side = -(equations[:, known] @ pixels[known])
    pixels[unknown] = spsolve(equations[:, unknown].tocsc(), right_side).reshape(len(unknown), -1)
    return pixels.reshape(image.shape)


def _biharmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return inpaint_biharmonic(image.astype(np.float64), hole, channel_axis=-1)


def _per_image(fill: Callable[[np.ndarray, np.ndarray], np.ndarray], degraded: Tensor, mask: Tensor) -> Tensor:
    """Runs fill((H, W, 3), (H, W)) on each image that has both a hole and known pixels."""
    filled = degraded.clone()
    holes = mask[:, 0].cpu().numpy()
    images = degraded.permute(0, 2, 3, 1).cpu().numpy()
    for i, hole in enumerate(holes):
        if hole.any() and not hole.all():
            result = fill(images[i], hole)
            filled[i] = torch.from_numpy(result).permute(2, 0, 1).to(filled).clamp(0.0, 1.0)
    return torch.where(mask, filled, degraded)


def diffusion_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """Continues the border into the hole by Laplace's equation, solved exactly; stays in the range of the border.

    About 4 ms per 64 px image with a 30 % hole on one core.
    """
    return _per_image(_harmonic, degraded, mask)


def biharmonic_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """scikit-image's biharmonic inpainting, which also continues the slope at the border of the hole.

    Best PSNR of the three over all holes of blur_erase, although it overshoots in large ones. About 9 ms per 64 px
    image with a 30 % hole on one core.
    """
    return _per_image(_biharmonic, degraded, mask)
