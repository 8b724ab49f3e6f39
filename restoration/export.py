"""Write a checkpoint's restorer as one file to share: weights, or a graph for other programs.

python -m restoration.export checkpoint=outputs/photo/first output=photo.safetensors
python -m restoration.export checkpoint=photo.safetensors output=photo.onnx
"""

import json
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.fx.experimental._config as tracing
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from restoration.checkpoint_file import read_checkpoint
from restoration.errors import UserError
from restoration.estimator.fill import EXPORTED_HALVINGS
from restoration.flow import to_image
from restoration.restorer import Restorer
from restoration.run.command import hydra_command, output_folder
from restoration.weights_file import write_weights

# What the file is made with, beside PyTorch.
_NEEDS = {".safetensors": (), ".pt2": (), ".onnx": ("onnx", "onnxscript")}


class OneEvaluation(nn.Module):
    """A restorer's result of one evaluation (NFE 1), as a function of tensors alone."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer.eval().requires_grad_(False)

    def forward(self, degraded: Tensor, noise: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restored images float32 (B, 3, H, W) in [0, 1].

        Args:
            degraded: float32 (B, 3, H, W) in [0, 1], H and W multiples of the stride.
            noise: standard normal (B, 3, H, W), what `Field.start` draws from keys.
            mask: bool (B, 1, H, W), True where content is missing; None if unknown.
        """
        field = self.restorer.field(degraded, mask)
        x_0, start = field.mean + field.sigma * noise, noise.new_zeros(noise.shape[0])
        if self.restorer.sampler.two_times:
            return to_image(x_0 + field.displacement(x_0, start, torch.ones_like(start)))
        # With every other sampler, one evaluation is Euler's step to t = 1, which is x̂_1.
        return to_image(field.clean(x_0, start))


def graph(restorer: Restorer, mask: bool = False) -> ExportedProgram:
    """`OneEvaluation` as a graph of any batch size, height and width (multiples of the stride).

    Args:
        restorer: in eval mode from here on.
        mask: whether the mask is an input.

    Raises:
        UserError: a part of it cannot be traced, such as a source that restores by itself.
    """
    stride = restorer.stride
    dynamic = {0: Dim("batch"), 2: stride * Dim("rows"), 3: stride * Dim("columns")}
    images = torch.rand(2, 3, 3 * stride, 4 * stride)
    inputs = {"degraded": images, "noise": torch.randn_like(images)}
    if mask:
        inputs["mask"] = images[:, :1] > 0.5
    try:
        # Otherwise the coarse levels of the filling, a single pixel for small images only, would fix the size.
        with tracing.patch(backed_size_oblivious=True), torch.no_grad():  # type: ignore[attr-defined]
            return torch.export.export(
                OneEvaluation(restorer), (), inputs, dynamic_shapes=dict.fromkeys(inputs, dynamic), strict=False
            )
    except Exception as error:  # a dozen types
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"this restorer cannot be written as a graph ({reason}); share its weights instead") from error


def write_graph(restorer: Restorer, path: Path, mask: bool = False) -> None:
    """Writes `graph` as ONNX (.onnx) or for PyTorch (.pt2); the file appears complete or not at all."""
    metadata = {"stride": str(restorer.stride), "largest_side": str(2**EXPORTED_HALVINGS), "images": "RGB, 0 to 1"}
    program, part = graph(restorer, mask), path.with_stem(f"{path.stem}.part")
    if path.suffix == ".pt2":
        torch.export.save(program, part, extra_files={"metadata.json": json.dumps(metadata)})
    else:
        with warnings.catch_warnings(action="ignore"):
            converted = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["restored"])
        assert converted is not None
        converted.model.metadata_props.update(metadata)
        converted.save(part)
    os.replace(part, path)


@hydra_command("export")
def main(config: DictConfig) -> None:
    checkpoint, output = Path(config.checkpoint), Path(config.output)
    if output.suffix not in _NEEDS:
        raise UserError(f"output={output}: give a name that ends in .safetensors, .onnx or .pt2")
    if missing := [name for name in _NEEDS[output.suffix] if find_spec(name) is None]:
        raise UserError(f"output={output} needs {' and '.join(missing)}: pip install 'restoration[export]'")
    if output.exists() and not config.overwrite:
        raise UserError(f"already there: {output}; add overwrite=true, or give another output=")
    restorer = Restorer.load(checkpoint, trust=config.trust)  # refuses what cannot be restored with
    output_folder(output.parent)
    if output.suffix == ".safetensors":
        write_weights(read_checkpoint(checkpoint, config.trust), output)
    else:
        write_graph(restorer, output, config.with_mask)
    print(f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
