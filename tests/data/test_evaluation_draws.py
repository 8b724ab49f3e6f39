"""Evaluation images: what training alone does to its images stays out, and version 1 of the protocol is as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from restoration.batch import Batch
from restoration.corruption import Corruption, Erase, GaussianBlur, MotionBlur, OneOf, Sequence
from restoration.data.datamodule import RestorationDataModule
from restoration.data.store import Store


class Fixed(RestorationDataModule):
    """Twelve images by formula."""

    def load_splits(self) -> dict[str, Store]:
        y, x, channel, number = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), np.arange(12), indexing="ij")
        pixels = ((37 * number + 11 * x + 7 * y * (channel + 1) + x * y) % 256).astype(np.uint8)
        whole = Store(pixels.transpose(3, 0, 1, 2).copy(), np.arange(12) * 7 + 1000, np.arange(12) % 5)
        return whole.split({"train": 4, "selection": 4, "test": 4})


def make(protocol: int = 2, flat_areas: float = 0.0, enlarged: float = 0.0) -> Fixed:
    blur = OneOf({"motion": MotionBlur(), "gaussian": GaussianBlur()})
    corruption = Corruption(Sequence({"blur": blur, "erase": Erase()}), protocol=protocol)  # type: ignore[arg-type]
    options = {"image_size": 32, "batch_size": 4, "eval_batch_size": 3}
    return Fixed(corruption, flat_areas=flat_areas, enlarged=enlarged, **options)  # type: ignore[arg-type]


def test_version_1_draws_what_it_drew():
    """The figures were computed with the last commit of version 1: severity, erased pixels, mean of the result."""
    batches = list(make(protocol=1).batches("test"))
    severity = [0.621985, 0.837983, 0.830309, 0.806491]
    assert torch.cat([batch.index for batch in batches]).tolist() == [1056, 1063, 1070, 1077]
    assert torch.cat([batch.severity for batch in batches]).tolist() == pytest.approx(severity, abs=1e-6)
    assert [batch.mask[i].sum().item() for batch in batches for i in range(len(batch))] == [195, 266, 260, 247]
    mean = torch.cat([batch.degraded.double().mean(dim=(1, 2, 3)) for batch in batches]).tolist()
    assert mean == pytest.approx([0.40812, 0.37601, 0.3746, 0.37724], abs=2e-5)
    other = torch.cat([batch.severity for batch in make().batches("test")])
    assert not torch.allclose(other, torch.tensor(severity))


@pytest.mark.parametrize("split", ["selection", "test"])
def test_variations_are_not_in_evaluation(split: str):
    varied = make(flat_areas=1.0, enlarged=1.0)
    for plain, other in zip(make().batches(split), varied.batches(split), strict=True):
        assert torch.equal(plain.clean, other.clean) and torch.equal(plain.degraded, other.degraded)


def trained(epoch: int = 0, **shares: float) -> Batch:
    """The first batch of a training."""
    module = make(**shares)  # type: ignore[arg-type]
    progress = SimpleNamespace(is_last_batch=True, current=SimpleNamespace(processed=0, ready=0))
    loop = SimpleNamespace(restarting=False, epoch_loop=SimpleNamespace(batch_progress=progress))
    module.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1, global_step=0, fit_loop=loop)
    module.setup()
    return module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)


def test_flat_areas_are_in_training():
    plain, flat = trained(), trained(flat_areas=1.0)
    assert torch.equal(plain.index, flat.index)
    assert (plain.clean != flat.clean).flatten(1).any(dim=1).all()


def test_a_share_of_the_training_batches_has_twice_the_side():
    sides = [trained(epoch, enlarged=0.3).clean.shape[-1] for epoch in range(60)]
    assert set(sides) == {32, 64} and 8 <= sides.count(64) <= 28  # binomial, 18 ± 2.8 deviations
    batch = trained(enlarged=1.0)
    assert batch.degraded.shape == batch.clean.shape == (4, 3, 64, 64) and batch.mask.shape == (4, 1, 64, 64)
