"""Random numbers as pure functions of a key.

A key is a 64-bit integer, hashed from the parts that identify a draw, such as (seed, purpose, epoch, image index).
The words drawn from a key are the outputs of the generator SplitMix64 with the key as its seed (Steele, Lea & Flood
2014, "Fast splittable pseudorandom number generators"), so an image's draws do not depend on its batch, its rank, the
device or the version of torch.
"""

import math
import zlib

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """Two's complement: torch has no uint64 arithmetic, but int64 products have the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_WORDS = 1 << 20  # of each key at a time: they need ten times the memory of the draws
_MULTIPLIERS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's is arithmetic)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MULTIPLIERS[0]
    z = (z ^ _shift(z, 27)) * _MULTIPLIERS[1]
    return z ^ _shift(z, 31)


def fold(*parts: int | str | Tensor) -> Tensor:
    """Hashes integers, strings (a purpose such as "blur") and int64 tensors that broadcast together into keys.

    The keys are int64, of the broadcast shape, on the device of the tensors.
    """
    device = next((part.device for part in parts if isinstance(part, Tensor)), torch.device("cpu"))
    key = torch.zeros((), dtype=torch.int64, device=device)
    for part in parts:
        if isinstance(part, str):
            part = zlib.crc32(part.encode())
        if isinstance(part, int):
            part = torch.tensor(_signed(part), device=device)
        key = _mix(key * 3 + part + _GAMMA)
    return key


def _bits(keys: Tensor, count: int, first: int = 0) -> Tensor:
    """`count` words from the `first` of SplitMix64 with each key (B,) as its seed: int64 (B, count)."""
    counter = torch.arange(first + 1, first + count + 1, device=keys.device) * _GAMMA
    return _mix(keys[:, None] + counter)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Uniform draws in [0, 1): float32 (B, count) from int64 keys (B,)."""
    return _shift(_bits(keys, count), 40).float() * 2.0**-24


def normal(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws: float32 (B, *shape) from int64 keys (B,), by the Box-Muller transform."""
    count = math.prod(shape)
    half = (count + 1) // 2
    draws = torch.empty(len(keys), 2 * half, dtype=torch.float32, device=keys.device)
    for first in range(0, half, _WORDS):
        bits = _bits(keys, min(_WORDS, half - first), first)
        # Two 24-bit uniforms from each word; the first is never 0, where the logarithm diverges.
        radius = (_shift(bits, 40).float() + 1.0).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
        angle = ((bits & 0xFFFFFF).float()).mul_(2.0 * math.pi * 2.0**-24)
        end = first + bits.shape[1]
        torch.mul(radius, angle.cos(), out=draws[:, first:end])
        torch.mul(radius, angle.sin(), out=draws[:, half + first : half + end])
    return draws[:, :count].reshape(len(keys), *shape)


def permutation(size: int, *parts: int | str) -> Tensor:
    """A random order of `size` items, from the key of the parts: int64 (size,)."""
    return torch.argsort(_mix(fold(*parts) + torch.arange(1, size + 1) * _GAMMA), stable=True)
