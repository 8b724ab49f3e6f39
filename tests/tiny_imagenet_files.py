"""A small copy of the tree of Tiny ImageNet."""

import io
import zipfile
from pathlib import Path

from PIL import Image

from restoration.corruption import Corruption, GaussianBlur
from restoration.data.tiny_imagenet import TinyImageNet

CLASSES = ["n03", "n01", "n02"]  # not sorted, as in the official file


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L" if shade % 2 else "RGB", (64, 64), shade if shade % 2 else (shade,) * 3).save(file, "JPEG")
    return file.getvalue()


def members(numbers: tuple[int, ...] = (0, 8, 12, 489, 490, 496)) -> dict[str, bytes]:
    files = {"wnids.txt": "\n".join(CLASSES).encode(), "words.txt": b"", "test/images/test_0.JPEG": jpeg(3)}
    for position, wnid in enumerate(CLASSES):
        for number in numbers:
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(40 * position + number % 40)
    files["val/val_annotations.txt"] = b"val_2.JPEG\tn02\t0\t0\t9\t9\nval_10.JPEG\tn03\t0\t0\t9\t9\n"
    files["val/images/val_2.JPEG"], files["val/images/val_10.JPEG"] = jpeg(102), jpeg(110)
    return {f"tiny-imagenet-200/{name}": content for name, content in files.items()}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "tiny-imagenet-200"


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, content in members().items():
            target.writestr(name, content)
    return file.getvalue()


def list_splits(folder: Path) -> dict:
    return TinyImageNet(Corruption(GaussianBlur()), root=str(folder.parent)).list_splits()
