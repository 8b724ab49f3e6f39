"""The restorer: what people train, keep, load and share."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from PIL import Image
from torch import Tensor, nn

from restoration.arguments import check_arguments
from restoration.backbone import Backbone
from restoration.checkpoint_file import broken, read_checkpoint
from restoration.errors import UserError
from restoration.estimator import Estimator, Identity, large_holes
from restoration.flow import CleanPrediction, ConditionalField, Source, to_image, to_model
from restoration.flow.tiling import TiledField, Tiles, by_rows, pad
from restoration.hub import HubMixin
from restoration.keyed import fold
from restoration.picture import MAX_MEGAPIXELS, encode, read, read_mask, unit
from restoration.sampler import Sampler
from restoration.trust import shapes
from restoration.weights_file import PREFIX, shipped

# The config groups that make a restorer.
GROUPS = ("backbone", "estimator", "source", "prediction", "sampler")


@dataclass(frozen=True)
class Restored:
    """Images float32 (B, 3, H, W) in [0, 1], and the share (B,) of each one's pixels that was taken for a hole."""

    images: Tensor
    hole_share: Tensor


class Restorer(HubMixin):
    """Restores degraded images: an estimator, a backbone, the flow's source and prediction, and a sampler.

    Args:
        backbone: the network.
        source: gives x_0.
        sampler: goes from x_0 to x_1.
        prediction: makes the field from the network; by default the network predicts the clean image.
        estimator: of the degradation; by default it estimates nothing.

    Attributes:
        config: the training config, if it was loaded from a checkpoint.
    """

    config: dict[str, Any]

    def __init__(
        self,
        backbone: Backbone,
        source: Source,
        sampler: Sampler,
        prediction: Callable[..., ConditionalField] = CleanPrediction,
        estimator: Estimator | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.estimator = estimator or Identity()
        self.source = source
        self.sampler = sampler
        self.prediction = prediction

    @property
    def stride(self) -> int:
        """Heights and widths must be multiples of it (`restore` pads)."""
        return self.backbone.stride

    @property
    def device(self) -> torch.device:
        """Of the parameters."""
        return next(self.parameters()).device

    def check_size(self, size: int) -> None:
        """UserError if images of that side would need padding, which training does not do."""
        if size % self.stride:
            near = " or ".join(str(side) for side in (size - size % self.stride, size + -size % self.stride) if side)
            raise UserError(
                f"data.image_size={size} is not a multiple of the backbone's stride {self.stride}; use {near}"
            )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by group: "new" (random weights), then the backbone's pretrained groups."""
        pretrained = self.backbone.pretrained()
        known = {id(parameter) for parameters in pretrained.values() for parameter in parameters}
        estimator = [parameter for parameter in self.estimator.parameters() if parameter.requires_grad]
        return {"new": estimator + [p for p in self.backbone.parameters() if id(p) not in known], **pretrained}

    def field(
        self, degraded: Tensor, mask: Tensor | None = None, start: tuple[Tensor, Tensor] | None = None
    ) -> ConditionalField:
        """The field that leads to the clean images. Estimator and encoder run here, once per image.

        Args:
            degraded: float32 (B, 3, H, W) in [0, 1], H and W multiples of the stride.
            mask: bool or float (B, 1, H, W), as `Estimator.forward` takes it; None if unknown.
            start: mean (B, 3, H, W) and sigma (B, 1, H, W) of x_0 if known already; None asks the source.
        """
        estimate = self.estimator(images := to_model(degraded), mask)
        images = estimate.observed(images)
        features = self.backbone.encode(images, estimate)

        def network(x_in: Tensor, t: Tensor, r: Tensor | None, noise: Tensor | None) -> Tensor:
            if r is None:
                return self.backbone(x_in, t, features)
            if not self.backbone.two_times:
                name = type(self.backbone).__name__
                raise UserError(f"{name} takes one time t; a flow map over [t, r] needs one with two_times = True")
            return self.backbone(x_in, t, features, r, noise)

        mean, sigma = start or (self.source.mean(images, estimate), self.source.sigma(estimate))
        return self.prediction(network=network, estimate=estimate, mean=mean, sigma=sigma)

    @torch.no_grad()
    def restore(
        self,
        degraded: Tensor,
        keys: Tensor,
        nfe: int | None = None,
        sampler: Sampler | None = None,
        mask: Tensor | None = None,
        tiles: Tiles | None = None,
        keep_known: bool = False,
        dtype: torch.dtype | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Restored:
        """Restored images, and what was taken for a hole.

        Args:
            degraded: (B, 3, H, W), float32 in [0, 1] or uint8, any height and width.
            keys: int64 (B,); equal keys give equal noise.
            nfe: network evaluations per image; None takes the sampler's own.
            sampler: replaces the restorer's own.
            mask: bool (B, 1, H, W), True where content is missing, whatever is there now; None if unknown.
            tiles: splits images larger than a tile, and has large holes looked for (`large_holes`); None does neither.
            keep_known: pixels outside the mask stay as they are.
            dtype: of the network's multiplications; None is float32, or that of an autocast around the call.
            progress: called after each batch of tiles, with the share of the work that is done.

        Raises:
            ValueError: keep_known without a mask.
        """
        if keep_known and mask is None:
            raise ValueError("keep_known needs a mask")
        (height, width), sampler = degraded.shape[-2:], sampler or self.sampler
        mask = None if mask is None else mask.to(degraded.device)
        padded, hole = pad(degraded, self.stride), None if mask is None else pad(mask, self.stride)
        with nullcontext() if dtype is None else torch.autocast(degraded.device.type, dtype):
            hole = large_holes(self.estimator, padded) if tiles is not None and hole is None else hole
            if tiles is None or max(height, width) <= tiles.size:
                field: ConditionalField | TiledField = self.field(padded, hole)
            else:
                passes = 1 + (nfe or sampler.nfe)  # the first one makes the start
                done = None if progress is None else lambda passed: progress(passed / passes)
                field = TiledField(self.field, padded, hole, tiles, self.stride, done)
            share = (field.hole[..., :height, :width] > 0.5).float().mean(dim=(1, 2, 3))
            result = sampler(field, field.start(keys), nfe, field.residual_std, keys)
        del field, padded  # The conversion needs their memory.
        images = to_image(result.float())[..., :height, :width]
        if mask is not None and keep_known:
            images = by_rows(lambda new, old, hole: new.where(hole, unit(old)), images, degraded, mask, out=images)
        return Restored(images, share)

    def restore_image(
        self,
        image: str | Path | Image.Image | np.ndarray,
        nfe: int | None = None,
        seed: int = 0,
        max_megapixels: float = MAX_MEGAPIXELS,
        mask: str | Path | Image.Image | np.ndarray | None = None,
        keep_known: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Image.Image | np.ndarray:
        """The restored image: an array for an array, else a Pillow image with the mode and alpha of the input.

        Args:
            image: a file, a Pillow image, or an array uint8 (H, W, 3), of any size; in tiles if it is large.
            nfe, keep_known, dtype: as in `restore`.
            seed: of the sampling noise.
            max_megapixels: a larger image is refused.
            mask: of the same size (a file, a Pillow image, an array uint8 or bool), white where content is missing.

        Raises:
            UserError: a file is missing or damaged, the image too large, or the mask of another size, empty or full.
        """
        given = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        try:
            picture = read(given, max_megapixels)
            hole = None if mask is None else read_mask(mask, picture, max_megapixels=max_megapixels)[None]
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"cannot read the image {given}: {error}") from error
        degraded, keys = picture.pixels[None].to(self.device), fold(seed, "sampling", 0)[None]
        done = self.restore(degraded, keys, nfe, mask=hole, tiles=Tiles(), keep_known=keep_known, dtype=dtype)
        encoded = encode(replace(picture, pixels=done.images[0].cpu()))
        return np.asarray(encoded) if isinstance(image, np.ndarray) else encoded

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "cpu", trust: Any = None) -> "Restorer":
        """The restorer of a checkpoint, rebuilt from the training config in it, in eval mode.

        Args:
            path: a checkpoint, run folder or weights file; None: the weights that come with the package.
            trust: names of other packages whose code the checkpoint may use.

        Raises:
            UserError: as `read_checkpoint`, it does not fit this version, or its weights are not finite.
        """
        if path is None and (path := shipped()) is None:
            raise UserError("this package comes without weights; give a checkpoint")
        checkpoint = read_checkpoint(path, trust)
        if (name := broken(checkpoint)) is not None:
            raise UserError(f"{path}: its weight {name} is not finite; give another checkpoint")
        config, weights = checkpoint["config"], checkpoint["state_dict"].items()
        state = {k.removeprefix(PREFIX): v for k, v in weights if k.startswith(PREFIX)}
        try:
            with torch.device("meta"):  # takes no memory before the weights are known to fit
                fit = shapes(cls.build(config, "checkpoint").state_dict()) == shapes(state)
            restorer = cls.build(config, "checkpoint") if fit else None
        except Exception as error:  # missing keys, unknown classes, wrong arguments
            cause = error.__cause__ or error
            reason = str(cause) if isinstance(cause, UserError) else f"{type(cause).__name__}: {cause}".splitlines()[0]
            message = f"{path}: this version cannot build the network of its config ({reason})"
            raise UserError(f"{message}; give a checkpoint of this project") from error
        if restorer is None:
            raise UserError(f"{path}: its weights do not fit the network of its config")
        restorer.load_state_dict(state)
        restorer.config, restorer.images_seen = config, checkpoint.get("images_seen")
        return restorer.to(device).eval()

    @classmethod
    def build(cls, config: dict[str, Any], weights: str | None = None) -> "Restorer":
        """A restorer from its config groups (`GROUPS`).

        Args:
            config: plain containers with `_target_`s.
            weights: replaces `backbone.encoder.weights`; "checkpoint" if a state dict will follow.
        """
        parts: dict[str, Any] = {name: {**config[name]} for name in GROUPS}
        check_arguments(parts)
        if weights is not None and "encoder" in parts["backbone"]:
            parts["backbone"]["encoder"] = {**parts["backbone"]["encoder"], "weights": weights}
        return cls(**{name: instantiate(part) for name, part in parts.items()})
