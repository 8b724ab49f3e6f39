"""Classical inpainting of the hole. It uses the true mask, which a blind restorer does not have.

Every fill takes degraded images (B, 3, H, W) in [0, 1] and a bool mask (B, 1, H, W), True in the hole, and returns
images in [0, 1]. Known pixels do not change, nor does an image that is all hole.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import LaplacianNd, spsolve
from skimage.restoration import inpaint_biharmonic
from torch import Tensor


def mean_fill(degraded: Tensor, mask: Tensor) -> Tensor:
    """Fills the hole with the mean of the known pixels, per image and channel."""
    known = ~mask
    count = known.sum(dim=(2, 3), keepdim=True)
    mean = (degraded * known).sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
    return torch.where(mask & (count > 0), mean, degraded)


@lru_cache(maxsize=4)
def _laplacian(height: int, width: int) -> csr_array:
    """The graph Laplacian of the pixels, degree minus neighbours, which reflects at the border of the image."""
    return -LaplacianNd((height, width), boundary_conditions="neumann", dtype=np.float64).tosparse()


def _harmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    known, unknown = np.flatnonzero(~hole), np.flatnonzero(hole)
    pixels = np.array(image.reshape(hole.size, -1))
    equations = _laplacian(*hole.shape)[unknown]
    right_side = -(equations[:, known] @ pixels[known])
    pixels[unknown] = spsolve(equations[:, unknown].tocsc(), right_side).reshape(len(unknown), -1)
    return pixels.reshape(image.shape)


def _per_image(fill: Callable[[np.ndarray, np.ndarray], np.ndarray], degraded: Tensor, mask: Tensor) -> Tensor:
    """Runs fill(float64 (H, W, 3), bool (H, W)) on each image that has both a hole and known pixels."""
    filled = degraded.clone()
    holes = mask[:, 0].cpu().numpy()
    images = degraded.permute(0, 2, 3, 1).cpu().double().numpy()
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
    return _per_image(partial(inpaint_biharmonic, channel_axis=-1), degraded, mask)
