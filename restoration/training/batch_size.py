"""The largest training batch that fits the GPU."""

import logging

import torch

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.keyed import fold
from restoration.objective import Objective
from restoration.restorer import Restorer

__all__ = ["largest_batch_size", "training_pass"]

log = logging.getLogger(__name__)


def largest_batch_size(restorer: Restorer, objective: Objective, image_size: int, limit: int = 4096) -> int:
    """Doubles the batch until a forward and backward pass of all parameters runs out of memory.

    Returns half of the largest batch that fits, which leaves room for the optimiser, the average and validation.

    Args:
        restorer, objective: what will be trained.
        image_size: pixels.
        limit: upper bound.

    Raises:
        UserError: there is no CUDA GPU, or not even a batch of 2 fits.
    """
    if not torch.cuda.is_available():
        raise UserError("data.batch_size=auto needs a CUDA GPU; give a number, such as data.batch_size=64")
    restorer = restorer.cuda()
    size = 2
    try:
        while size < limit:
            training_pass(restorer, objective, 2 * size, image_size, "cuda", torch.bfloat16)
            size *= 2
    except torch.OutOfMemoryError:
        pass
    finally:
        restorer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    if size == 2:
        raise UserError("data.batch_size=auto: not even 4 images fit this GPU; choose a smaller backbone or image_size")
    log.info("largest batch that fits: %d; data.batch_size=%d", size, size // 2)
    return size // 2


def training_pass(
    restorer: Restorer, objective: Objective, size: int, pixels: int, device: str, dtype: torch.dtype | None
) -> None:
    """Forward and backward pass of a training step on random images, without the optimiser.

    Args:
        restorer, objective: what is trained; the restorer on the device.
        size: of the batch.
        pixels: side of an image.
        device: "cpu" or "cuda".
        dtype: of autocast; None is float32.
    """
    images = torch.rand(size, 3, pixels, pixels, device=device)
    index = torch.arange(size, device=device)
    mask = torch.zeros(size, 1, pixels, pixels, dtype=torch.bool, device=device)
    batch = Batch(images, images, mask, torch.zeros(size, device=device), index)
    with torch.autocast(device, dtype, enabled=dtype is not None):
        loss, _ = objective(restorer, batch, fold(0, index))
    loss.backward()
