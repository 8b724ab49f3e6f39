"""The FID: the Fréchet distance over the Inception network that defines it."""

from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
from torch import Tensor, nn

from restoration.errors import UserError

NAME = "inception"  # of `frechet.model`


class Inception(nn.Module):
    """The features of the FID (Heusel et al. 2017), by torch-fidelity; its weights are those of the first FID code.

    Args:
        weights: a weights file of torch-fidelity; None downloads it.

    Raises:
        UserError: torch-fidelity is not installed, or the weights are missing or of another network.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise UserError(
                f"frechet.model={NAME} needs torch-fidelity ({error}): pip install 'restoration[fid]'"
            ) from error
        if weights is not None and not Path(weights).is_file():
            raise UserError(f"frechet.weights={weights}: there is no such file")
        try:
            if weights is not None:
                torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would run code of the file
            self.network = FeatureExtractorInceptionV3("fid", ["2048"], None if weights is None else str(weights))
        except URLError as error:
            raise UserError(
                f"the weights of frechet.model={NAME} could not be downloaded ({error.reason}): "
                "give a file of them by frechet.weights="
            ) from error
        except (RuntimeError, OSError, EOFError, TypeError, ValueError, UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"frechet.weights={weights} are not those of torch-fidelity's Inception: {reason}"
            ) from error

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map (B, 2048, 1, 1) of images (B, 3, H, W) in [−1, 1], rounded to 8 bits as the FID takes them."""
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [self.network(pixels)[0][:, :, None, None]]
