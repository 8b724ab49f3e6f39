"""The order of an epoch: a permutation, resumable at any batch."""

import pytest
import torch

from restoration.data.epoch import EpochBatches


def epoch(batches: EpochBatches, number: int = 0) -> list[torch.Tensor]:
    batches.set_epoch(number)
    return list(batches)


def test_an_epoch_is_a_permutation_without_the_incomplete_batch():
    batches = EpochBatches(103, 10, seed=0)
    rows = epoch(batches)
    assert len(rows) == len(batches) == 10 and {len(part) for part in rows} == {10}
    joined = torch.cat(rows).tolist()
    assert len(set(joined)) == 100 and set(joined) <= set(range(103))
    assert sorted(torch.cat(epoch(EpochBatches(100, 10, seed=0))).tolist()) == list(range(100))


def test_the_order_depends_on_seed_and_epoch_only():
    first, second = EpochBatches(64, 8, seed=1), EpochBatches(64, 8, seed=1)
    for number in (0, 1, 5):
        assert torch.equal(torch.cat(epoch(first, number)), torch.cat(epoch(second, number)))
    assert torch.equal(torch.cat(epoch(first, 1)), torch.cat(epoch(EpochBatches(64, 16, seed=1), 1)))
    assert not torch.equal(torch.cat(epoch(first, 1)), torch.cat(epoch(first, 2)))
    assert not torch.equal(torch.cat(epoch(first, 1)), torch.cat(epoch(EpochBatches(64, 8, seed=2), 1)))


@pytest.mark.parametrize("seen", [0, 1, 5, 8])
def test_a_resumed_epoch_is_the_tail_of_the_whole(seen):
    whole = epoch(EpochBatches(64, 8, seed=0), 3)
    resumed = EpochBatches(64, 8, seed=0)
    resumed.resume(3, seen)
    tail = epoch(resumed, 3)
    assert [part.tolist() for part in tail] == [part.tolist() for part in whole[seen:]]
    # Only the interrupted epoch is shortened.
    assert len(epoch(resumed, 4)) == 8 and len(epoch(resumed, 3)) == 8


def test_resuming_does_not_shorten_another_epoch():
    batches = EpochBatches(64, 8, seed=0)
    batches.resume(3, 5)
    assert len(epoch(batches, 4)) == 8


def test_too_few_images_give_no_batch():
    assert len(EpochBatches(7, 8, seed=0)) == 0 and epoch(EpochBatches(7, 8, seed=0)) == []
