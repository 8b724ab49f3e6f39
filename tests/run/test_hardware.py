"""Precision and device: what `auto` means, and what is refused."""

import pytest
import torch

from restoration.errors import UserError
from restoration.run import hardware
from restoration.run.hardware import autocast_dtype, draws_alike, resolve_precision, usable_device


@pytest.mark.parametrize(
    "amx, avx, expected", [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")]
)
def test_precision_of_a_cpu_follows_its_instructions(monkeypatch, amx: bool, avx: bool, expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert resolve_precision("auto", "auto") == expected


@pytest.mark.parametrize("capability, expected", [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")])
def test_precision_of_a_gpu_follows_its_generation(monkeypatch, capability: tuple[int, int], expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert resolve_precision("auto", "gpu") == expected


def test_mixed_precisions_have_a_type_to_multiply_in():
    types = {"32-true": None, "64-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, 32: None}
    assert {precision: autocast_dtype(precision) for precision in types} == types


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_given_precision_is_taken(precision: str):
    assert resolve_precision(precision, "auto") == precision


@pytest.mark.parametrize("precision", ["fp16", 16, 32, "bf16", "64-true", "bf16-true"])
def test_another_precision_is_refused(precision: str | int):
    with pytest.raises(UserError, match=f"precision={precision}: choose one of auto, 32-true, 16-mixed, bf16-mixed"):
        resolve_precision(precision, "auto")


def test_half_precision_needs_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """Lightning would use bfloat16 instead."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_precision("16-mixed", "auto") == "16-mixed"
    with pytest.raises(
        UserError, match="precision=16-mixed needs a CUDA GPU; on a CPU use auto, bf16-mixed or 32-true"
    ):
        resolve_precision("16-mixed", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a CUDA GPU"):
        resolve_precision("16-mixed", "auto")


def test_a_device_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto").type == usable_device("cpu").type == "cpu"
    with pytest.raises(UserError, match=r"device=toaster cannot be used here \(.*\); try device=cpu"):
        usable_device("toaster")


def test_an_apple_gpu_is_taken_if_it_draws_the_noise_of_the_cpu(monkeypatch: pytest.MonkeyPatch):
    """There is none where these tests run: what is tested is the choice."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto", mps=True).type == "cpu", "it is said to be there, but nothing runs on it"
    monkeypatch.setattr(hardware, "draws_alike", lambda device: True)
    assert usable_device("auto", mps=True).type == "mps"
    assert usable_device("auto").type == "cpu", "corruptions and metrics were not written for it"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable_device("auto", mps=True).type == "cuda"


def test_the_noise_of_a_device_is_compared(monkeypatch: pytest.MonkeyPatch):
    assert draws_alike("cpu") and not draws_alike("meta")
    drawn = iter([torch.zeros(4, 3, 8, 8), torch.full((4, 3, 8, 8), 0.1)])
    monkeypatch.setattr(hardware, "normal", lambda keys, shape: next(drawn))
    assert not draws_alike("cpu")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_without_an_apple_gpu_it_is_refused():
    with pytest.raises(UserError, match=r"^device=mps cannot be used here \(this is no Apple GPU\); try device=cpu$"):
        usable_device("mps")
    assert resolve_precision("auto", "mps") == "32-true"
