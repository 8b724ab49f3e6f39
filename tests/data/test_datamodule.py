"""Batches of clean and degraded images: what their degradation depends on, and what not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from restoration.batch import Batch
from restoration.corruption import Corruption, Erase, GaussianBlur, GaussianNoise, OneOf, Sequence
from restoration.data.datamodule import RestorationDataModule
from restoration.data.store import Store
from restoration.errors import UserError


class Random(RestorationDataModule):
    """Images of noise; indices that are not row numbers."""

    def load_splits(self) -> dict[str, Store]:
        pixels = np.random.default_rng(0).integers(0, 256, (90, 16, 16, 3), dtype=np.uint8)
        whole = Store(pixels, np.arange(90) * 7 + 1000, np.arange(90) % 5)
        return whole.split({"train": 40, "selection": 25, "test": 25})


@pytest.mark.parametrize("size", [{"image_size": 16.5}, {"batch_size": 0}, {"eval_batch_size": "auto"}])
def test_sizes_are_whole_numbers(size: dict):
    (name,) = size
    with pytest.raises(UserError, match=f"data.{name}=.* must be a whole number, at least 1"):
        Random(corruption(), **size)


def corruption() -> Corruption:
    either = OneOf({"blur": GaussianBlur(), "noise": GaussianNoise()})
    return Corruption(Sequence({"either": either, "erase": Erase()}))


def make(epoch: int = 0, rank: int = 0, world: int = 1, step: int = 0, **options) -> Random:
    """A data module with the parts of a trainer that it reads."""
    made = Random(corruption(), **{"batch_size": 8, "seed": 0, **options})
    progress = SimpleNamespace(is_last_batch=True, current=SimpleNamespace(processed=0, ready=0))
    loop = SimpleNamespace(restarting=False, epoch_loop=SimpleNamespace(batch_progress=progress))
    made.trainer = SimpleNamespace(
        current_epoch=epoch, global_rank=rank, world_size=world, global_step=step, fit_loop=loop
    )
    made.setup()
    return made


def train(module: Random) -> list[Batch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(module.trainer.current_epoch)
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def by_index(batches: list[Batch]) -> dict[int, tuple[torch.Tensor, ...]]:
    """Clean and degraded image, mask and severity by index; checks ranges."""
    found = {}
    for batch in batches:
        for values in (batch.clean, batch.degraded, batch.severity):
            assert values.min() >= 0 and values.max() <= 1
        for row, index in enumerate(batch.index.tolist()):
            assert index not in found
            found[index] = (batch.clean[row], batch.degraded[row], batch.mask[row], batch.severity[row])
    return found


def same(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> bool:
    return all(
        torch.allclose(a.cpu().float(), b.cpu().float(), atol=1e-6, rtol=0) for a, b in zip(first, second, strict=True)
    )


def test_clean_images_indices_and_labels_are_those_of_the_store():
    module = make()
    batches = list(module.batches("test"))
    store = module.splits["test"]
    clean = torch.cat([batch.clean for batch in batches])
    assert torch.equal((clean * 255).round().byte().permute(0, 2, 3, 1), torch.from_numpy(store.images.copy()))
    assert torch.cat([batch.index for batch in batches]).tolist() == store.index.tolist()
    assert torch.cat([batch.label for batch in batches]).tolist() == store.label.tolist()


@pytest.mark.parametrize("split", ["selection", "test"])
def test_evaluation_degradation_depends_on_the_index_only(split):
    whole = by_index(list(make(eval_batch_size=25).batches(split)))
    assert len(whole) == 25
    for options in ({"eval_batch_size": 4}, {"seed": 9}, {"epoch": 3}, {"rank": 1, "world": 2}, {"step": 50}):
        other = by_index(list(make(**options).batches(split)))
        assert other.keys() == whole.keys()
        assert all(same(whole[index], other[index]) for index in whole), options
    severities = torch.stack([row[3] for row in whole.values()])
    assert len(severities.unique()) == 25


def test_the_validation_loader_yields_the_same_selection_batches():
    module = make(eval_batch_size=10)
    loaded = by_index([module.on_after_batch_transfer(batch, 0) for batch in module.val_dataloader()])
    direct = by_index(list(module.batches("selection")))
    assert loaded.keys() == direct.keys() and all(same(loaded[index], direct[index]) for index in direct)


def test_training_degradation_changes_with_epoch_and_seed_only():
    reference = by_index(train(make(epoch=2)))
    assert len(reference) == 40
    for options in ({"batch_size": 5}, {"step": 1000}, {"eval_batch_size": 3}):
        other = by_index(train(make(epoch=2, **options)))
        assert other.keys() == reference.keys() and all(same(reference[i], other[i]) for i in other), options
    halves = [by_index(train(make(epoch=2, rank=rank, world=2, batch_size=4))) for rank in (0, 1)]
    assert not halves[0].keys() & halves[1].keys() and len(halves[0]) + len(halves[1]) == 40
    for half in halves:
        assert all(same(reference[index], half[index]) for index in half)
    for options in ({"epoch": 3}, {"epoch": 2, "seed": 1}):
        other = by_index(train(make(**options)))
        assert not any(same(reference[index], other[index]) for index in other), options


def test_the_order_changes_with_the_epoch():
    orders = [torch.cat([batch.index for batch in train(make(epoch=epoch))]).tolist() for epoch in (0, 1, 1)]
    assert orders[1] == orders[2] != orders[0] and sorted(orders[0]) == sorted(orders[1])


def test_half_of_the_training_images_are_flipped_and_none_in_evaluation():
    flipped = []
    for epoch in range(10):
        module = make(epoch=epoch)
        store = module.splits["train"]
        rows = {int(index): row for row, index in enumerate(store.index)}
        for index, (clean, *_) in by_index(train(module)).items():
            stored = torch.from_numpy(store.images[rows[index]].copy()).permute(2, 0, 1) / 255
            if not torch.allclose(clean, stored):
                torch.testing.assert_close(clean, stored.flip(-1))
                flipped.append(index)
    assert abs(len(flipped) - 200) < 4.5 * 10
    assert len(set(flipped)) > 35


def test_an_interrupted_epoch_continues_where_it_stopped():
    module = make(epoch=1)
    whole = [batch.index.tolist() for batch in train(module)]
    module.trainer.fit_loop.restarting = True
    module.trainer.fit_loop.epoch_loop.batch_progress = SimpleNamespace(
        is_last_batch=False, current=SimpleNamespace(processed=3, ready=4)
    )
    assert [batch.index.tolist() for batch in train(module)] == whole[3:]


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(UserError, match=r"data.batch_size=50 on 1 device.* 40 training images"):
        make(batch_size=50).train_dataloader()


def test_missing_devices_are_refused():
    with pytest.raises(UserError, match="data.device='tpu'"):
        Random(corruption(), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="data.device=cuda"):
            Random(corruption(), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_images_held_on_the_gpu_are_the_same():
    cpu = by_index(train(make(epoch=1)))
    module = make(epoch=1, device="cuda")
    loader = module.train_dataloader()
    loader.sampler.set_epoch(1)
    moved = ({k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items()} for batch in loader)
    gpu = by_index([module.on_after_batch_transfer(batch, 0) for batch in moved])
    assert all(same(cpu[index], gpu[index]) for index in cpu)
