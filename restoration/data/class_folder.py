"""A folder with a folder of images for each class."""

from dataclasses import replace
from pathlib import Path

from restoration.data.decode import Source
from restoration.data.image_folder import ImageFolder
from restoration.errors import UserError
from restoration.picture import printable


class ClassFolder(ImageFolder):
    """As `ImageFolder`, with classes: `root/<class>/….png`, at any depth below it; labels follow the sorted names.

    Raises:
        UserError: as `ImageFolder`; or an image is in no class folder, there are fewer than two classes, or a class
            has no training image.
    """

    store_name = "class_folder"

    def list_splits(self) -> dict[str, list[Source]]:
        splits = super().list_splits()
        own = {source.index: _class(self.root, source) for sources in splits.values() for source in sources}
        classes = sorted(set(own.values()))
        if "" in classes or len(classes) < 2:
            raise UserError(
                f"{self.root} must have two or more folders, one for each class, with all images in them; sort the "
                "images into such folders, or use data=image_folder"
            )
        if untaught := set(classes) - {own[source.index] for source in splits["train"]}:
            name = printable(min(untaught))
            raise UserError(f"{self.root}: the class {name} has no training image; it needs more images")
        self.classes = [printable(name) for name in classes]
        labels = {name: label for label, name in enumerate(classes)}
        return {
            split: [replace(source, label=labels[own[source.index]]) for source in sources]
            for split, sources in splits.items()
        }


def _class(root: str, source: Source) -> str:
    """The first folder below the root on the way to an image; "" if there is none."""
    parts = Path(source.path).relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""
