"""Figures of single images: (B,) values from (B, 3, H, W) pictures in [0, 1].

Everything is computed on clamped float32 images with autocast off: under bf16 autocast SSIM is wrong in the second
digit. Nothing is pooled over a batch, so the mean over a set does not depend on the batch size.
"""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

__all__ = ["PSNR_CAP", "gradient_energy", "measure", "psnr", "psnr_region", "ssim"]

PSNR_CAP = 60.0
"""In dB. An untouched image has no error; its PSNR counts as this instead of infinity."""


def _prepared(*images: Tensor) -> list[Tensor]:
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) != 1 or images[0].ndim != 4:
        raise ValueError(f"the images to compare have shapes {sorted(shapes)}; give two of one shape (B, 3, H, W)")
    return [image.detach().float().clamp(0.0, 1.0) for image in images]


def _decibel(mse: Tensor) -> Tensor:
    """-10 log10(MSE), at most PSNR_CAP; NaN stays NaN."""
    return -10.0 * torch.log10(mse.clamp(min=10.0 ** (-PSNR_CAP / 10.0)))


def psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, one value per image, capped at 60 dB.

    Args:
        restored: (B, 3, H, W); clamped to [0, 1] here.
        clean: (B, 3, H, W) in [0, 1].

    Returns:
        float32 (B,): 10 log10(1 / MSE), the MSE over channels and pixels of that image.
    """
    restored, clean = _prepared(restored, clean)
    return _decibel((restored - clean).square().mean(dim=(1, 2, 3)))


def psnr_region(restored: Tensor, clean: Tensor, region: Tensor) -> Tensor:
    """PSNR over the pixels of a region only, in dB, capped at 60 dB; NaN for an image whose region is empty.

    Args:
        restored: (B, 3, H, W); clamped to [0, 1] here.
        clean: (B, 3, H, W) in [0, 1].
        region: bool (B, 1, H, W), True where the error counts.
    """
    restored, clean = _prepared(restored, clean)
    error = (restored - clean).square().mean(dim=1, keepdim=True)
    pixels = region.sum(dim=(1, 2, 3))
    return _decibel((error * region).sum(dim=(1, 2, 3)) / pixels)


def ssim(restored: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), one value per image: Gaussian 11x11 window, sigma 1.5, border kept.

    scikit-image crops five pixels of border and so differs in the third digit.

    Args:
        restored: (B, 3, H, W); clamped to [0, 1] here. H and W must exceed 5.
        clean: (B, 3, H, W) in [0, 1].
    """
    restored, clean = _prepared(restored, clean)
    with torch.autocast(clean.device.type, enabled=False):
        if clean.is_cuda:
            # TF32 convolutions round to ten bits, and SSIM takes differences of near-equal moments.
            restored, clean = restored.double(), clean.double()
        value = structural_similarity_index_measure(restored, clean, sigma=1.5, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value.float().reshape(len(clean))


def gradient_energy(images: Tensor, mask: Tensor) -> Tensor:
    """Sum of squared finite differences inside the hole, (B,).

    Only differences whose two pixels both lie in the hole count: the seam between hole and surroundings does not.

    Args:
        images: (B, 3, H, W) in [0, 1].
        mask: bool (B, 1, H, W), True in the hole.
    """
    (images,) = _prepared(images)
    down = (images[:, :, 1:] - images[:, :, :-1]).square() * (mask[:, :, 1:] & mask[:, :, :-1])
    right = (images[..., 1:] - images[..., :-1]).square() * (mask[..., 1:] & mask[..., :-1])
    return down.sum(dim=(1, 2, 3)) + right.sum(dim=(1, 2, 3))


def measure(restored: Tensor, clean: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The figures of protocol.md for one batch, each float32 (B,).

    `psnr_hole` and `psnr_known` are NaN for images without a hole. `texture` is the restored picture's gradient
    energy in the hole, to be divided by `gradient_energy(clean, mask)` over a whole set.
    """
    has_hole = mask.flatten(1).any(dim=1)
    known = psnr_region(restored, clean, ~mask)
    return {
        "psnr": psnr(restored, clean),
        "ssim": ssim(restored, clean),
        "psnr_hole": psnr_region(restored, clean, mask),
        "psnr_known": known.masked_fill(~has_hole, torch.nan),
        "texture": gradient_energy(restored, mask),
    }
