"""Fit a sampler's time grid to a checkpoint: few evaluations, as close as possible to the result of many.

python -m restoration.tune checkpoint=outputs/blur_erase/first/checkpoints/best.ckpt nfe=8
"""

import math

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from scipy.optimize import minimize
from torch import Tensor

from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError, whole_number
from restoration.flow import to_image
from restoration.keyed import fold
from restoration.restorer import Restorer
from restoration.run.checkpoint import open_checkpoint
from restoration.run.command import hydra_command
from restoration.run.hardware import autocast_dtype, resolve_precision
from restoration.sampler import Euler, Sampler


@torch.no_grad()
def tune(
    restorer: Restorer,
    degraded: Tensor,
    keys: Tensor,
    sampler: Sampler,
    nfe: int,
    reference: int = 500,
    tries: int = 40,
) -> tuple[tuple[float, float], float, float]:
    """The warp whose result with few evaluations is nearest to that of many, from the same noise.

    The logarithms of its two parameters are fitted by the simplex method of Nelder and Mead (1965), starting from the
    uniform grid, so the result is never worse on these images.

    Args:
        restorer: in eval mode.
        degraded: (B, 3, H, W) in [0, 1], H and W multiples of its stride.
        keys: int64 (B,), of the noise.
        sampler: the solver; its own warp and count do not matter.
        nfe: evaluations to fit the grid for.
        reference: Euler steps of the reference result.
        tries: number of grids.

    Returns:
        The warp, and the root mean square distance to the reference in [0, 1] space with it and with the uniform grid.
    """
    field = restorer.field(degraded)
    x_0 = field.start(keys)
    target = to_image(Euler(keep=sampler.keep)(field, x_0, reference, field.residual_std).float())

    def distance(logarithms: tuple[float, float]) -> float:
        warp = (math.exp(logarithms[0]), math.exp(logarithms[1]))
        try:
            restored = type(sampler)(nfe, warp, sampler.keep)(field, x_0, residual_std=field.residual_std)
        except UserError:  # a warp that leaves steps without length
            return math.inf
        restored = to_image(restored.float())
        return float((restored - target).square().mean().sqrt())

    simplex = [[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]]
    options = {"maxfev": tries, "initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-6}
    found = minimize(distance, [0.0, 0.0], method="Nelder-Mead", options=options)
    a, b = (round(math.exp(value), 3) for value in found.x)
    return (a, b), float(found.fun), distance((0.0, 0.0))


def tune_on_selection(
    restorer: Restorer,
    data: RestorationDataModule,
    precision: str | int,
    nfe: int | None = None,
    images: int = 64,
    reference: int = 500,
) -> tuple[tuple[float, float], float, float]:
    """`tune` for the restorer's own sampler on the first images of the selection set.

    Args:
        restorer: in eval mode; its stride must divide the size of the images.
        data: has the selection set.
        precision: of the network, as Lightning names it.
        nfe: evaluations to fit for; None is the sampler's own number.
        images: how many, at most.
        reference: Euler steps of the reference result.

    Returns:
        As `tune`.

    Raises:
        UserError: a single step, which has no grid; an image size that the stride does not divide.
    """
    nfe = restorer.sampler.nfe if nfe is None else nfe
    if sum(divmod(nfe, restorer.sampler.evaluations)) < 2:
        raise UserError(f"nfe={nfe} is a single step and has no grid to fit; ask for more evaluations")
    restorer.check_size(data.image_size)
    device = restorer.device
    dtype = autocast_dtype(precision)
    degraded, index = [], []
    for batch in data.batches("selection", device):
        degraded.append(batch.degraded)
        index.append(batch.index)
        if sum(map(len, index)) >= images:
            break
    keys = fold(0, "sampling", 0, torch.cat(index)[:images])
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        return tune(restorer, torch.cat(degraded)[:images], keys, restorer.sampler, nfe, reference)


@hydra_command("tune")
def main(config: DictConfig) -> None:
    whole_number("nfe", config.nfe, 1)
    restorer, trained, data = open_checkpoint(config)
    device = restorer.device
    precision = resolve_precision(config.precision or trained["trainer"]["precision"], device.type)
    warp, after, before = tune_on_selection(restorer, data, precision, config.nfe, config.images, config.reference)
    solver = type(restorer.sampler).__name__
    chosen = HydraConfig.get().runtime.choices["sampler"]
    print(
        f"{solver}, {config.nfe} NFE: RMSE to {config.reference} Euler steps {before:.4f} uniform, {after:.4f} warped"
    )
    grid = f"{f'sampler={chosen} ' if chosen else ''}'sampler.warp=[{warp[0]},{warp[1]}]'"
    print(f"for restore: nfe={config.nfe} {grid}\nfor evaluate: evaluation.nfe={config.nfe} {grid}")


if __name__ == "__main__":
    main()
