"""Dead leaves: the same image for the same key, and statistics near those of natural images."""

import numpy as np
import pytest
import torch

from restoration.corruption import Corruption, GaussianBlur
from restoration.data.dead_leaves import RADII, DeadLeaves, _outlines, dead_leaves
from restoration.errors import UserError
from restoration.keyed import fold


@pytest.fixture(scope="module")
def images():
    return dead_leaves(np.arange(96), 64, seed=0)


def test_an_image_depends_on_seed_and_index_only(images):
    assert np.array_equal(dead_leaves(np.array([40, 3]), 64, seed=0), images[[40, 3]])
    assert not np.array_equal(dead_leaves(np.array([3]), 64, seed=1)[0], images[3])
    assert len({image.tobytes() for image in images}) == len(images)


def test_several_processes_draw_the_same_as_one(monkeypatch):
    drawn = []
    for cores in (1, 2):
        monkeypatch.setattr("restoration.data.decode.cores", lambda cores=cores: cores)
        drawn.append(dead_leaves(np.arange(64 * 8 + 5), 8, 0))
    assert np.array_equal(*drawn)


def test_sizes_show_the_same_image(images):
    small = dead_leaves(np.arange(96), 32, seed=0).astype(float)
    averaged = images.reshape(96, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - averaged).mean() < 4 < np.abs(small - averaged[::-1]).mean()


def test_splits_are_disjoint_and_do_not_change_with_their_sizes():
    corruption = Corruption(GaussianBlur())
    few, more = (
        DeadLeaves(corruption, image_size=16, train_images=count, selection_images=4, test_images=6).load_splits()
        for count in (10, 30)
    )
    assert [len(few[split]) for split in ("train", "selection", "test")] == [10, 4, 6]
    assert len({index for store in more.values() for index in store.index.tolist()}) == 40
    for split in ("selection", "test"):
        assert np.array_equal(few[split].images, more[split].images)
        assert np.array_equal(few[split].index, more[split].index)
    assert np.array_equal(few["train"].images, more["train"].images[:10])


def test_test_images_do_not_depend_on_the_seed_of_the_run():
    sizes = {"image_size": 16, "train_images": 2, "selection_images": 2, "test_images": 3}
    one, two = (DeadLeaves(Corruption(GaussianBlur()), **sizes, seed=seed).load_splits()["test"] for seed in (0, 1))
    assert np.array_equal(one.images, two.images)
    other = DeadLeaves(Corruption(GaussianBlur()), **sizes, image_seed=1).load_splits()["test"]
    assert not np.array_equal(one.images, other.images)


def test_no_images_is_an_error():
    with pytest.raises(UserError, match="data.test_images=0"):
        DeadLeaves(Corruption(GaussianBlur()), test_images=0)


def test_radii_follow_the_power_law():
    """Of discs, the share of radii above r is (r^-2 - high^-2) / (low^-2 - high^-2)."""
    corners, _ = _outlines(fold(0, torch.arange(200)), 1)
    corners = corners.view(-1, corners.shape[-1] // 2, 2)
    distance = (corners - corners.mean(dim=1, keepdim=True)).norm(dim=2)
    radius = distance.mean(dim=1)[distance.std(dim=1) < 1e-3 * distance.mean(dim=1)]
    assert len(radius) > 0.4 * len(corners)
    low, high = RADII
    assert low * 0.999 < radius.min() and radius.max() < high * 1.001
    for edge in (0.08, 0.1, 0.15, 0.25):
        share = (edge**-2 - high**-2) / (low**-2 - high**-2)
        assert (radius > edge).float().mean().item() == pytest.approx(share, abs=0.01)


def test_the_power_spectrum_falls_like_a_natural_one(images):
    """Power near f^-2 (Field 1987). By this estimator Tiny ImageNet has -2.1, these leaves -3.0: smoother.

    The mean step between neighbours is 19 grey levels in Tiny ImageNet.
    """
    grey = images.mean(axis=3)
    window = np.hanning(64)[:, None] * np.hanning(64)
    power = (np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    band = (frequency > 2.5 / 64) & (frequency < 24 / 64)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert -3.0 < slope < -1.5
    assert 15 < np.abs(np.diff(grey, axis=2)).mean() < 24


def test_images_have_contrast_and_antialiased_edges(images):
    values = images.astype(float) / 255
    assert 0.15 < values.std() < 0.35 and 0.35 < values.mean() < 0.65
    assert values.std(axis=(1, 2, 3)).min() > 0.04
    batch = next(
        DeadLeaves(Corruption(GaussianBlur()), 16, train_images=2, selection_images=2, test_images=3).batches("test")
    )
    assert len(batch) == 3 and batch.label is None
