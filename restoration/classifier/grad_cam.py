"""Where in an image a classifier sees its class (Grad-CAM), by the package grad-cam."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from restoration.classifier.model import Classifier
from restoration.errors import UserError

LEAST = 4  # positions along a side of a map; of fewer, none says where


class ClassMaps(NamedTuple):
    """What a classifier answers for N images, and where it sees that."""

    maps: Tensor  # float32 (N, H, W): 0 (no evidence for the answer) to 1 (the most in this image)
    answers: Tensor  # int64 (N,): the likeliest class
    probabilities: Tensor  # float32 (N,): of the answer


def class_maps(classifier: Classifier, images: Tensor) -> ClassMaps:
    """Grad-CAM of the likeliest class (Selvaraju et al. 2017), enlarged to the size of the images.

    It is taken at the deepest feature map with at least `LEAST` positions along a side; of a transformer, at the first
    normalisation of its last block: what follows does not reach the class token, so that its gradient is zero.

    Args:
        classifier: in eval mode; the weights stay as they are.
        images: (N, 3, H, W) in [0, 1].

    Returns:
        On the CPU.

    Raises:
        UserError: grad-cam is not installed, or the model has no such layer.
    """
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise UserError(f"Grad-CAM needs grad-cam ({error}): pip install 'restoration[cam]'") from error
    images = images.to(classifier.mean.device).float().clamp(0.0, 1.0)
    layer, arrange = _layer(classifier, images[:1])
    cam = GradCAM(classifier, [layer], arrange)
    try:
        with torch.enable_grad():
            # Gradients reach the layer from the image, whether or not the weights below it are frozen.
            maps = cam(images.clone().requires_grad_(), None)
        chances, answers = cam.outputs.detach().softmax(dim=1).max(dim=1)
    finally:
        cam.activations_and_grads.release()
        classifier.zero_grad()
    return ClassMaps(torch.from_numpy(maps), answers.cpu(), chances.cpu())


@torch.no_grad()
def _layer(classifier: Classifier, image: Tensor) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The layer to look at, for images such as this one (1, 3, H, W), and what makes its output (B, D, h, w)."""
    model: Any = classifier.model
    blocks = getattr(model, "blocks", None)
    if hasattr(model, "patch_embed") and blocks is not None and hasattr(blocks[-1], "norm1"):
        patch = model.patch_embed.patch_size
        height, width = (-(-side // length) for side, length in zip(image.shape[-2:], patch, strict=True))
        return blocks[-1].norm1, lambda tokens: tokens[:, -height * width :].mT.unflatten(2, (height, width))
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"  # channels
    arrange: Callable[[Tensor], Tensor] = (lambda maps: maps.movedim(-1, 1)) if last else (lambda maps: maps)
    sides: dict[nn.Module, int] = {}

    def measure(stage: nn.Module, _: Any, output: Tensor) -> None:
        sides[stage] = min(arrange(output).shape[2:]) if output.ndim == 4 else 0

    stages = [model.get_submodule(stage["module"]) for stage in getattr(model, "feature_info", ())]
    hooks = [stage.register_forward_hook(measure) for stage in stages]
    classifier(image)
    for hook in hooks:
        hook.remove()
    fine = [stage for stage in stages if sides[stage] >= LEAST]
    if not fine:
        raise UserError(f"{classifier.name} has no feature map of {LEAST} x {LEAST} positions for these images")
    return fine[-1], arrange
