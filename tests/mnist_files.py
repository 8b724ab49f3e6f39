"""Small idx files in the format of MNIST."""

import gzip
from pathlib import Path

import numpy as np

# A training of a classifier on them.
SHORT = [
    *("experiment=mnist_digits", "name=run", "data.batch_size=8", "callbacks.progress_bar=null"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1"),
    *("trainer.num_sanity_val_steps=0", "trainer.enable_progress_bar=false"),
]


def idx(values: np.ndarray) -> bytes:
    """The format: two zero bytes, the type 8 of uint8, the number of dimensions, each as a big-endian int32, bytes."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.astype(np.uint8).tobytes()


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 28, 28), each of a bar whose height tells its label, (count,)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 7, 4:24] = draw.integers(128, 256)
    return images, labels


def contents(train: int = 90, test: int = 20) -> dict[str, bytes]:
    """The four files by name."""
    files = {}
    for part, count in (("train", train), ("t10k", test)):
        images, labels = digits(count, count)
        files |= {f"{part}-images-idx3-ubyte": idx(images), f"{part}-labels-idx1-ubyte": idx(labels)}
    return files


def write_digits(root: Path, folder: str = "MNIST/raw", packed: bool = False, **counts: int) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in contents(**counts).items():
        content, name = (gzip.compress(content, mtime=0), f"{name}.gz") if packed else (content, name)
        (root / folder / name).write_bytes(content)
    return root
