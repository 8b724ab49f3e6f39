"""Write a checkpoint's restorer as one small file to share, which every command takes as checkpoint.

python -m restoration.export checkpoint=outputs/photo/first output=photo.safetensors
"""

from pathlib import Path

from omegaconf import DictConfig

from restoration.checkpoint_file import read_checkpoint
from restoration.errors import UserError
from restoration.restorer import Restorer
from restoration.run.checkpoint import best_checkpoint
from restoration.run.command import hydra_command, output_folder
from restoration.weights_file import write_weights


@hydra_command("export")
def main(config: DictConfig) -> None:
    checkpoint, output = Path(config.checkpoint), Path(config.output)
    if output.suffix != ".safetensors":
        raise UserError(f"output={output}: give a name that ends in .safetensors")
    if output.exists() and not config.overwrite:
        raise UserError(f"already there: {output}; add overwrite=true, or give another output=")
    checkpoint = best_checkpoint(checkpoint) if checkpoint.is_dir() else checkpoint
    Restorer.load(checkpoint, trust=config.trust)  # refuses what cannot be restored with
    output_folder(output.parent)
    write_weights(read_checkpoint(checkpoint, config.trust), output)
    print(f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
