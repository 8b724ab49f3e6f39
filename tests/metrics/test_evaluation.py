"""An evaluation of restorers whose figures are known beforehand."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.keyed import fold, normal
from restoration.metrics.evaluation import Evaluation
from restoration.metrics.frechet import FrechetDistance
from restoration.metrics.image import psnr_region
from restoration.restorer import Restored


class Euler:
    """Names the solver."""

    keep = 0.0


class Fake:
    """Returns the given answer, plus keyed noise of standard deviation sigma in the hole."""

    sampler = Euler()

    def __init__(self, answer, sigma: float = 0.0) -> None:
        self.answer, self.sigma, self.calls = answer, sigma, 0

    def restore(self, degraded, keys, nfe=None, sampler=None, mask=None, dtype=None):
        self.calls += 1
        # A given sampler returns the answer without noise.
        noise = (0 if sampler else self.sigma) * normal(keys, tuple(degraded.shape[1:]))
        images = (self.answer(degraded) + noise * (degraded == 0)).clamp(0, 1)
        return Restored(images, torch.zeros(len(images)))


def batches(sizes=(5, 4, 3), hole: bool = True) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    made, first = [], 0
    for size in sizes:
        clean = torch.rand(size, 3, 32, 32, generator=generator) * 0.5 + 0.25
        mask = torch.zeros(size, 1, 32, 32, dtype=torch.bool)
        if hole:
            mask[1:, :, 8:20, 10:22] = True  # the first image of each batch is whole
        degraded = (clean + 0.05 * torch.randn(clean.shape, generator=generator)).clamp(0.01, 1.0) * ~mask
        index = torch.arange(first, first + size)
        made.append(Batch(clean, degraded, mask, index.float() / sum(sizes), index))
        first += size
    return made


def test_identity_restorer_equals_identity():
    result = Evaluation(nfe=(1, 2))(Fake(lambda y: y), batches())
    report = result.report
    assert report["n"] == 12
    for entry in (report["restored"], *report["by_nfe"]):
        for name in ("psnr", "psnr_ci", "ssim", "psnr_hole", "psnr_known", "texture_ratio"):
            assert entry[name] == report["identity"][name], name
        assert entry["spread_hole"] == 0.0 and entry["solver"] == "Euler"
    assert [entry["nfe"] for entry in report["by_nfe"]] == [1, 2]
    for entry in report["by_severity"]:
        for restored in entry["by_nfe"]:
            assert restored["gain"] == 0.0 and restored["gain_known"] == 0.0
    assert report["images_per_second"] > 0 and report["seconds"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize(("dtype", "masks"), [(None, True), (torch.bfloat16, False)])
def test_the_network_multiplies_in_the_type_asked_for_and_sees_masks_only_if_asked_for(dtype, masks):
    seen = []

    class Multiplies(Fake):
        def restore(self, degraded, keys, nfe=None, sampler=None, mask=None, dtype=None):
            seen.append((dtype, mask is not None))
            return Restored(degraded.to(dtype or degraded.dtype).float(), torch.zeros(len(degraded)))

    report = Evaluation(nfe=(1,), dtype=dtype, masks=masks)(Multiplies(None), batches()).report
    assert set(seen) == {(dtype, masks)}
    # The baselines do not pass through the network, and rounding to bfloat16 is all that separates the two.
    assert report["restored"]["ssim"] == pytest.approx(report["identity"]["ssim"], abs=1e-3)
    assert (report["restored"]["psnr_known"] == report["identity"]["psnr_known"]) == (dtype is None)


def test_perfect_restorer_reaches_the_cap():
    data = batches()
    answers = iter([batch.clean for batch in data])
    report = Evaluation(nfe=(1,), spread_samples=1)(Fake(lambda y: next(answers)), data).report
    assert report["restored"]["psnr"] == 60.0 and report["restored"]["psnr_hole_ci"] == [60.0, 60.0]
    assert report["restored"]["ssim"] == pytest.approx(1.0, abs=1e-4)
    assert report["restored"]["texture_ratio"] == pytest.approx(1.0)
    assert "spread_hole" not in report["restored"]
    assert report["identity"]["psnr"] < report["classical"]["mean_fill"]["psnr"] < 60.0
    assert set(report["classical"]) == {"mean_fill", "biharmonic", "diffusion"}


def test_batch_size_does_not_matter():
    whole = batches()
    joined = [Batch(**{k: torch.cat([getattr(b, k) for b in whole])
                       for k in ("clean", "degraded", "mask", "severity", "index")})]  # fmt: skip
    one = Evaluation(nfe=(4,))(Fake(lambda y: y, sigma=0.2), whole)
    other = Evaluation(nfe=(4,))(Fake(lambda y: y, sigma=0.2), joined)
    for row, row_other in zip(one.rows, other.rows, strict=True):
        assert row == pytest.approx(row_other, abs=1e-4)
    for name in ("psnr", "psnr_hole", "spread_hole"):
        assert one.report["restored"][name] == pytest.approx(other.report["restored"][name], abs=1e-4)


def test_spread_is_that_of_the_noise():
    """Noise of deviation 0.1 around 0.5; std over 8 samples is biased by c4(8) = 0.965."""

    def answer(y):
        return torch.where(y == 0, 0.5, y)

    result = Evaluation(nfe=(8,), spread_images=6)(Fake(answer, sigma=0.1), batches())
    assert result.report["restored"]["spread_hole"] == pytest.approx(0.0965, rel=0.02)
    assert result.report["restored"]["spread_known"] == 0.0


def test_the_mean_of_samples_is_better_than_one_by_what_the_noise_costs():
    """Noise of deviation 0.1 costs 0.01 of squared error in a hole of 144 / 1024 of the image; the mean of 8, 1/8."""
    (batch,) = batches(sizes=(64,))
    answers = torch.where(batch.mask, 0.5, batch.clean)
    perfect = Batch(answers, batch.degraded, batch.mask, batch.severity, batch.index)
    restored = Evaluation(nfe=(8,))(Fake(lambda y: answers[: len(y)], sigma=0.1), [perfect]).report["restored"]
    # The first image has no hole, hence no error: its PSNR is the cap.
    single, average = ((64 * restored[name] - 60) / 63 for name in ("psnr_single", "psnr_average"))
    assert single == pytest.approx(-10 * math.log10(0.01 * 144 / 1024), abs=0.1)
    assert average - single == pytest.approx(10 * math.log10(8), abs=0.1)


def test_figures_are_means_over_the_samples():
    data, restorer = batches(), Fake(lambda y: y, sigma=0.2)
    restored = Evaluation(nfe=(1, 4), samples=3, spread_samples=0)(restorer, data).report["by_nfe"][1]
    expected = []
    for sample in range(3):
        answers = [restorer.restore(batch.degraded, fold(0, "sampling", sample, batch.index)).images for batch in data]
        holes = [psnr_region(answer, batch.clean, batch.mask) for answer, batch in zip(answers, data, strict=True)]
        expected.append(float(torch.cat(holes).nanmean()))
    assert restored["psnr_hole_samples"] == pytest.approx(expected, abs=1e-4) and len(set(expected)) == 3
    assert restored["psnr_hole"] == pytest.approx(np.mean(expected), abs=1e-4)


def test_one_sample_is_enough_without_noise():
    restorer = Fake(lambda y: y)
    report = Evaluation(nfe=(1, 2), samples=3)(restorer, batches()).report
    assert "psnr_samples" not in report["restored"] and report["restored"]["spread_hole"] == 0.0
    # One result a batch and NFE, and one more to see that there is no noise.
    assert restorer.calls == 2 * (3 + 1)


def test_the_solvers_error_is_the_distance_to_its_reference():
    """The reference has no noise: what is left is the noise's deviation, over the hole's share of the pixels."""
    data = batches(sizes=(64,))
    result = Evaluation(nfe=(8,), reference=500, spread_samples=0)(
        Fake(lambda y: torch.where(y == 0, 0.5, y), 0.1), data
    )
    expected = 0.1 * (144 / 1024) ** 0.5 * 63 / 64
    assert result.report["restored"]["rmse_reference"] == pytest.approx(expected, rel=0.02)
    alone = Evaluation(nfe=(8,), reference=500, spread_images=10, spread_samples=0)
    report = alone(Fake(lambda y: torch.where(y == 0, 0.5, y), 0.1), data).report
    assert report["restored"]["rmse_reference"] != result.report["restored"]["rmse_reference"]


def test_kinds_of_damage_have_rows_of_their_own():
    data = batches()
    for batch in data:
        batch.kind = ["a" if number % 2 else "b" for number in batch.index.tolist()]
    report = Evaluation(nfe=(1,))(Fake(lambda y: y * 0.9), data).report
    assert [(entry["kind"], entry["n"]) for entry in report["by_kind"]] == [("a", 6), ("b", 6)]
    means = [entry["by_nfe"][0]["psnr"] for entry in report["by_kind"]]
    assert np.mean(means) == pytest.approx(report["restored"]["psnr"])
    assert Evaluation(nfe=(1,))(Fake(lambda y: y), batches()).report["by_kind"] == []


def test_images_are_cut_and_rows_agree_with_the_report():
    result = Evaluation(images=7, nfe=(1, 2))(Fake(lambda y: y * 0.9), batches())
    assert result.report["n"] == 7 and len(result.rows) == 14
    first = [row for row in result.rows if row["nfe"] == 1]
    assert [row["index"] for row in first] == list(range(7))
    assert np.mean([row["psnr"] for row in first]) == pytest.approx(result.report["restored"]["psnr"])
    holes = [row["psnr_hole"] for row in first if row["psnr_hole"] is not None]
    assert len(holes) == 5 and np.mean(holes) == pytest.approx(result.report["restored"]["psnr_hole"])
    assert {title: len(images) for title, images in result.examples.items()} == {
        "degraded": 7, "NFE 1": 7, "NFE 2": 7, "clean": 7
    }  # fmt: skip


def test_severity_quarters():
    report = Evaluation(nfe=(1,))(Fake(lambda y: y * 0.9), batches()).report
    assert [(entry["low"], entry["high"], entry["n"]) for entry in report["by_severity"]] == [
        (0.0, 0.25, 3), (0.25, 0.5, 3), (0.5, 0.75, 3), (0.75, 1.0, 3)
    ]  # fmt: skip
    mean = np.mean([entry["by_nfe"][0]["psnr"] for entry in report["by_severity"]])
    assert mean == pytest.approx(report["restored"]["psnr"])
    entry = report["by_severity"][0]
    gain = entry["by_nfe"][0]["psnr_known"] - entry["identity"]["psnr_known"]
    assert entry["by_nfe"][0]["gain_known"] == pytest.approx(gain)


def test_without_holes():
    report = Evaluation(nfe=(1,))(Fake(lambda y: y), batches(hole=False)).report
    assert report["classical"] == {}
    assert report["restored"]["psnr_hole"] is None and report["restored"]["texture_ratio"] is None


def test_frechet_stands_under_its_name():
    class Maps(nn.Module):
        def forward(self, x):
            return [x]

    data = batches()
    frechet = FrechetDistance(Maps(), "frechet_maps")
    report = Evaluation(nfe=(1,), frechet=frechet)(Fake(lambda y: y), data).report
    assert report["restored"]["frechet_maps"] == pytest.approx(report["identity"]["frechet_maps"])
    assert report["identity"]["frechet_maps"] > 0.01
    answers = iter([batch.clean for batch in data])
    perfect = Evaluation(nfe=(1,), frechet=frechet, spread_samples=0)(Fake(lambda y: next(answers)), data).report
    assert perfect["restored"]["frechet_maps"] == pytest.approx(0.0, abs=1e-6)


def test_one_number_of_evaluations_is_a_list_of_one():
    assert Evaluation(nfe=8).nfe == [8]


@pytest.mark.parametrize(
    "arguments",
    [
        *({"nfe": nfe} for nfe in ((0, 8), (1.5,), (8, 8), (), "abc", 0)),
        *({name: 0} for name in ("images", "samples", "reference")),
        *({name: -1} for name in ("spread_samples", "spread_images")),
    ],
    ids=str,
)
def test_wrong_arguments_are_the_users(arguments):
    with pytest.raises(UserError, match=f"evaluation.{next(iter(arguments))}"):
        Evaluation(**arguments)


def test_no_images_and_broken_weights():
    with pytest.raises(UserError, match="no images"):
        Evaluation()(Fake(lambda y: y), [])
    with pytest.raises(UserError, match="1 NFE"):
        Evaluation()(Fake(lambda y: y * math.nan), batches())
