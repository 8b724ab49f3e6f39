"""Keyed draws: published values, distributions and independence."""

import math

import pytest
import torch
from scipy import stats

from restoration.keyed import _bits, fold, normal, permutation, uniform

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """The finaliser of SplitMix64, on Python's integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def splitmix64(state: int, count: int) -> list[int]:
    return [mix((state + number * GAMMA) & WORD) for number in range(1, count + 1)]


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# From the reference implementation, splitmix64.c (Vigna 2015), by seed.
PUBLISHED = {
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
}


@pytest.mark.parametrize("seed", PUBLISHED)
def test_words_are_the_published_outputs_of_splitmix64(seed):
    words = PUBLISHED[seed]
    assert splitmix64(seed, len(words)) == words
    assert [word % 2**64 for word in _bits(torch.tensor([seed]), len(words))[0].tolist()] == words


@pytest.mark.parametrize("state", [0, 1, 1234567, (1 << 63) - 1, (1 << 64) - 1])
def test_uniform_is_the_top_24_bits_of_splitmix64(state):
    drawn = uniform(torch.tensor([signed(state)]), 50)[0]
    assert drawn.tolist() == [(word >> 40) / 2**24 for word in splitmix64(state, 50)]


def test_fold_chains_the_finaliser():
    expected = 0
    for part in (7, -3, 123456789012):
        expected = mix((expected * 3 + part + GAMMA) & WORD)
    assert fold(7, -3, 123456789012).item() == signed(expected)


def test_fold_distinguishes_parts_orders_and_purposes():
    keys = [fold(0), fold(1), fold(0, 0), fold(0, 1), fold(1, 0), fold("blur"), fold("erase"), fold("blur", 0)]
    assert len({key.item() for key in keys}) == len(keys)


def test_fold_broadcasts_elementwise():
    index = torch.arange(1000)
    keys = fold(3, "blur", 5, index)
    assert keys.shape == (1000,) and len(keys.unique()) == 1000
    assert keys[17].item() == fold(3, "blur", 5, 17).item()
    assert torch.equal(fold(3, "blur", 5, index[[5, 900]]), keys[[5, 900]])
    assert fold(index[:, None], torch.arange(3)).shape == (1000, 3)


def test_uniform_fills_the_unit_interval():
    drawn = uniform(fold("a", torch.arange(2000)), 50)
    assert drawn.dtype == torch.float32 and drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 0.01
    across_keys = uniform(torch.arange(100_000), 1)[:, 0]
    assert stats.kstest(across_keys.numpy(), "uniform").pvalue > 0.01


def test_normal_is_standard_normal():
    drawn = normal(torch.arange(2000), (3, 5, 7)).double()
    assert drawn.shape == (2000, 3, 5, 7)
    count = drawn.numel()
    assert abs(drawn.mean()) < 4 / math.sqrt(count)
    assert abs(drawn.square().mean() - 1) < 4 * math.sqrt(2 / count)
    assert abs(drawn.pow(3).mean()) < 4 * math.sqrt(15 / count)
    assert abs(drawn.pow(4).mean() - 3) < 4 * math.sqrt(96 / count)
    assert stats.kstest(drawn.flatten()[:20_000].numpy(), "norm").pvalue > 0.01
    assert drawn.isfinite().all()


def test_adjacent_keys_and_places_are_independent():
    drawn = normal(torch.arange(401), (400,))
    bound = 4.5 / math.sqrt(400 * 400)
    correlation = {
        "next key": (drawn[1:] * drawn[:-1]).mean(),
        "next place": (drawn[:, 1:] * drawn[:, :-1]).mean(),
        "the two halves of Box-Muller": (drawn[:, :200] * drawn[:, 200:]).mean() / math.sqrt(2),
        "squares of next key": ((drawn[1:].square() - 1) * (drawn[:-1].square() - 1)).mean() / 2,
        "squares of the two halves": ((drawn[:, :200].square() - 1) * (drawn[:, 200:].square() - 1)).mean() / 2.83,
    }
    assert {name: value.item() for name, value in correlation.items() if abs(value) > bound} == {}


def test_draws_do_not_depend_on_the_batch():
    keys = fold("b", torch.arange(30))
    assert torch.equal(normal(keys, (3, 4, 4))[11:13], normal(keys[11:13], (3, 4, 4)))
    assert torch.equal(uniform(keys, 9)[7], uniform(keys[7:8], 9)[0])


@pytest.mark.parametrize("count", [1, 60, 121])
def test_normal_draws_do_not_depend_on_the_size_of_the_pieces(monkeypatch, count):
    whole = normal(torch.arange(2), (count,))
    monkeypatch.setattr("restoration.keyed._WORDS", 16)
    assert torch.equal(normal(torch.arange(2), (count,)), whole)


def test_a_single_normal_is_standard_normal():
    drawn = normal(torch.arange(20_000), (1,))
    assert stats.kstest(drawn[:, 0].numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_permutation_is_a_permutation_and_depends_on_its_key(size):
    order = permutation(size, 3, "order", 0)
    assert sorted(order.tolist()) == list(range(size))
    assert torch.equal(order, permutation(size, 3, "order", 0))
    if size == 1000:
        assert not torch.equal(order, permutation(size, 3, "order", 1))
        displacement = (order - torch.arange(size)).abs().float().mean()
        assert abs(displacement - size / 3) < 4 * size * 0.24 / math.sqrt(size)
