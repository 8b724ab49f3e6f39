"""Per-image figures against hand-computed values and torchmetrics."""

import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from restoration.metrics.image import gradient_energy, measure, psnr, psnr_region, ssim


def pictures(count: int = 4, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(count, 3, size, size, generator=generator)
    return clean, (clean + 0.1 * torch.randn(clean.shape, generator=generator))


def box(count: int, size: int = 32) -> torch.Tensor:
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    mask[:, :, 4:20, 8:24] = True
    return mask


def test_psnr_by_hand_and_per_image():
    clean = torch.full((2, 3, 8, 8), 0.5)
    restored = clean.clone()
    restored[0] += 0.1  # MSE 0.01: 20 dB
    restored[1] += 0.01  # MSE 0.0001: 40 dB
    values = psnr(restored, clean)
    torch.testing.assert_close(values, torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)
    pooled = 10 * math.log10(1 / (0.5 * (0.01 + 0.0001)))
    assert values.mean() > pooled + 5


def test_psnr_clamps_and_is_capped():
    clean = torch.ones(1, 3, 8, 8)
    assert psnr(clean + 5.0, clean).item() == 60.0
    assert psnr(clean - 0.1, clean).item() == pytest.approx(20.0, abs=1e-3)


def test_psnr_refuses_to_broadcast():
    with pytest.raises(ValueError, match="shapes"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8))


def test_psnr_region_counts_its_pixels_only():
    clean = torch.full((3, 3, 32, 32), 0.5)
    mask = box(3)
    mask[2] = False
    restored = clean + 0.1 * mask + 0.01 * ~mask
    torch.testing.assert_close(
        psnr_region(restored, clean, mask), torch.tensor([20.0, 20.0, math.nan]), atol=1e-3, rtol=0, equal_nan=True
    )
    figures = measure(restored, clean, mask)
    # An image without a hole takes no part in psnr_known either.
    torch.testing.assert_close(
        figures["psnr_known"], torch.tensor([40.0, 40.0, math.nan]), atol=1e-3, rtol=0, equal_nan=True
    )


@pytest.mark.parametrize("size", [32, 64])
def test_ssim_is_torchmetrics_image_by_image(size):
    clean, noisy = pictures(3, size)
    expected = [
        structural_similarity_index_measure(n[None].clamp(0, 1), c[None], data_range=1.0)
        for n, c in zip(noisy, clean, strict=True)
    ]
    torch.testing.assert_close(ssim(noisy, clean), torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(ssim(clean, clean), torch.ones(3), atol=1e-5, rtol=0)


def test_ssim_of_constant_images_by_formula():
    """Without variance only the luminance term is left: (2ab + c1) / (a² + b² + c1), c1 = 0.01²."""
    a, b = 0.4, 0.6
    value = ssim(torch.full((1, 3, 32, 32), a), torch.full((1, 3, 32, 32), b))
    assert value.item() == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=5e-4)  # float32


def test_autocast_changes_nothing():
    clean, noisy = pictures()
    mask = box(4)
    plain = measure(noisy, clean, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = structural_similarity_index_measure(noisy.clamp(0, 1), clean, data_range=1.0)
        under = measure(noisy, clean, mask)
    assert abs(raw.float() - plain["ssim"].mean()) > 1e-4, "autocast no longer harms SSIM: this test proves nothing"
    for name, values in plain.items():
        assert torch.equal(values, under[name]), name


def test_gradient_energy_by_hand():
    image = torch.zeros(1, 3, 6, 6)
    image[:, :, :, 3:] = 0.5  # one vertical edge, between columns 2 and 3
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 1:5, 1:5] = True
    assert gradient_energy(image, mask).item() == pytest.approx(3 * 4 * 0.25)
    mask[..., 3:] = False  # now the edge is the border of the hole, and does not count
    assert gradient_energy(image, mask).item() == 0.0
