"""What the hardware decides: precision, device, and which process this is."""

import logging
import os

import torch
from lightning.pytorch.utilities import rank_zero_only

from restoration.errors import UserError
from restoration.keyed import normal

log = logging.getLogger(__name__)

# Those of Lightning's names that keep float32 weights, without aliases.
PRECISIONS = ("auto", "32-true", "16-mixed", "bf16-mixed")


def resolve_precision(precision: str | int, accelerator: str) -> str | int:
    """What `precision=auto` means on this hardware; the other names of `PRECISIONS` are kept.

    bfloat16 on hardware that multiplies in it, float16 on older GPUs, float32 on other CPUs, where bfloat16 is
    emulated and two to three times slower, and on MPS, where nothing was measured.

    Args:
        precision: one of `PRECISIONS`.
        accelerator: Lightning's name, or the type of a device.

    Raises:
        UserError: another name, or 16-mixed without a CUDA GPU (Lightning would use bfloat16).
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: choose one of {', '.join(PRECISIONS)}")
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if precision == "16-mixed" and not gpu:
        raise UserError("precision=16-mixed needs a CUDA GPU; on a CPU use auto, bf16-mixed or 32-true")
    if precision != "auto":
        return precision
    if gpu:
        chosen = "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
        where = torch.cuda.get_device_name()
    elif accelerator == "mps":
        chosen, where = "32-true", "MPS"
    else:
        fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        chosen = "bf16-mixed" if fast else "32-true"
        where = "CPU with bfloat16 instructions" if fast else "CPU without bfloat16 instructions"
    log.info("precision: %s (%s)", chosen, where)
    return chosen


def autocast_dtype(precision: str | int) -> torch.dtype | None:
    """The autocast type of this precision outside the trainer; None is float32."""
    if "mixed" not in str(precision):
        return None
    return torch.float16 if str(precision).startswith("16") else torch.bfloat16


def first_process() -> bool:
    """Whether this is the first process of a run, by the variables of Slurm, torchrun and Lightning.

    Only the first one writes to the run folder. The trainer knows it too, but exists later.
    """
    ranks = ("SLURM_PROCID", "RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def be_quiet() -> None:
    """For all but the first process: warnings only, and no loggers of metrics. The trainer is made after them."""
    rank_zero_only.rank = 1  # type: ignore[attr-defined]
    logging.getLogger().setLevel(logging.WARNING)


def usable_device(name: str, mps: bool = False) -> torch.device:
    """The device of that name. UserError if it cannot be used.

    Args:
        name: such as cuda, mps or cpu; auto is the first of these that can be used.
        mps: auto may choose an Apple GPU, which restoring was written for, but has not been run on. Corruptions and
            metrics were not.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if mps and torch.backends.mps.is_available() and draws_alike("mps") else "cpu")
    if name.startswith("mps") and not torch.backends.mps.is_available():
        raise UserError(f"device={name} cannot be used here (this is no Apple GPU); try device=cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used here ({_short(error)}); try device=cpu") from error


def draws_alike(device: str) -> bool:
    """Whether keyed noise can be drawn on the device and is that of the CPU, which needs exact products of int64."""
    keys, shape = torch.arange(4), (3, 8, 8)
    try:
        return torch.allclose(normal(keys.to(device), shape).cpu(), normal(keys, shape), atol=1e-4)
    except (RuntimeError, TypeError):
        return False


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0].partition(". ")[0][:120]
