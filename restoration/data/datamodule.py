"""Batches of clean and degraded images from stores of clean ones."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from restoration.batch import Batch
from restoration.corruption import Corruption
from restoration.data.augment import enlarged, flat_areas
from restoration.data.decode import Source
from restoration.data.epoch import EpochBatches, Gather
from restoration.data.extra import Extra, Replacement, extra_images
from restoration.data.folds import in_folds
from restoration.data.store import Store, decode_once
from restoration.errors import Count, Range, Share, UserError, whole_number
from restoration.keyed import fold, uniform


@dataclass(eq=False, repr=False)
class RestorationDataModule(LightningDataModule):
    """Base class of the data sets; a subclass provides the clean images (`load_splits`).

    Images are moved to the device as uint8 and degraded there, a batch at a time. In training the degradation is
    keyed by (seed, epoch, image index), and images are mirrored at random. In evaluation it is keyed by the image index
    alone, so it is the same in every run.

    Args:
        corruption: degrades the images; None leaves the degraded images clean.
        image_size: side in pixels.
        batch_size: of training, per device.
        eval_batch_size: of validation and test, on all devices together.
        device: "cpu" reads batches from the store; "cuda" holds the training images on the GPU.
        seed: keys the order of the images and the degradations of training.
        flat_areas: share of the training images that get areas of exactly one colour before they are degraded
            (`augment.flat_areas`), so that not every such area is taken for a hole.
        enlarged: share of the training batches whose images have twice the side (`augment.enlarged`), for restoring
            photographs; such a batch takes four times as long.
        flip: mirrors half of the training images left to right; false where a mirrored image is another thing.
        folds, fold: a run of a cross-validation, `in_folds`; None for the data set's own splits.
        extra: folder of more training images, with a folder for each class (`extra_images`); None for none.
        extra_share: share of the training images whose place is taken by one of these, of the same class.

    Attributes:
        classes: names of the classes, in the order of the labels; None without classes. Known after `setup`.
        replacements: images that take the place of training images, in this order.

    Raises:
        UserError: a size is not a whole number, a share is not in [0, 1], or there is no such device.
    """

    corruption: Corruption | None
    image_size: Annotated[int, Range(1, 4096)] = 64
    batch_size: Count = 64
    eval_batch_size: Count = 128
    device: Literal["cpu", "cuda"] = "cpu"
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    flat_areas: Share = 0.0
    enlarged: Share = 0.0
    flip: bool = True
    folds: Annotated[int, Range(2, 1000)] | None = None
    fold: Annotated[int, Range(0, 999)] | None = None
    extra: str | None = None
    extra_share: Share | None = None

    def __post_init__(self) -> None:
        super().__init__()
        for name in ("flat_areas", "enlarged"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"data.{name}={share}: it must be a share in [0, 1]")
        if self.device not in ("cpu", "cuda"):
            raise UserError(f"data.device={self.device!r}: choose cpu or cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("data.device=cuda: no CUDA GPU was found; use data.device=cpu")
        for name in ("image_size", "batch_size", "eval_batch_size"):
            whole_number(f"data.{name}", getattr(self, name), 1)
        if (self.folds is None) != (self.fold is None):
            raise UserError(
                "give both data.folds and data.fold, such as data.folds=5 data.fold=0,1,2,3,4 -m, or neither"
            )
        if (self.extra is None) != (self.extra_share is None):
            raise UserError("give both data.extra=FOLDER and data.extra_share=, such as 0.3, or neither")
        self.splits: dict[str, Store] = {}
        self.replacements: list[Replacement] = []
        self.classes: list[str] | None = None
        self._resident: Tensor | None = None

    @abstractmethod
    def load_splits(self) -> dict[str, Store]:
        """The clean images: "train", "selection" (validation during training) and "test" (reported results)."""

    def prepare_data(self) -> None:
        """Download and decode missing images; Lightning calls it in one process, before `setup`."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        self.splits = self.load_splits()
        if self.folds is not None and self.fold is not None:
            self.splits = in_folds(self.splits, self.folds, self.fold)
        if self.extra is not None and self.extra_share is not None:
            self.splits["extra"] = extra_images(Path(self.extra), self.classes, self.image_size)
            self.replacements.append(Extra(self.splits["extra"], self.extra_share))
        if self.device == "cuda":
            self._resident = torch.from_numpy(np.ascontiguousarray(self.splits["train"].images)).cuda()

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        store, rank, world = self.splits["train"], self.trainer.global_rank, self.trainer.world_size
        batches = EpochBatches(len(store), self.batch_size * world, self.seed)
        if len(batches) == 0:
            raise UserError(
                f"data.batch_size={self.batch_size} on {world} device(s) is more than the {len(store)} training "
                "images; make it smaller"
            )
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress
        # An interrupt in the last batch leaves it fetched but not processed.
        over = progress.is_last_batch and progress.current.processed == progress.current.ready
        if self.trainer.fit_loop.restarting and not over:
            batches.resume(self.trainer.current_epoch, progress.current.processed)
        gather = Gather(store, "train", self._resident is None, rank, world)
        return DataLoader(gather, sampler=batches, batch_size=None)

    def _eval_dataloader(self, split: str, rank: int = 0, world: int = 1) -> DataLoader[Any]:
        rows = list(torch.arange(len(self.splits[split])).split(self.eval_batch_size))
        if len(rows) > 1 and len(rows[-1]) < world:
            rows[-2:] = [torch.cat(rows[-2:])]  # each rank needs an image of each batch
        if len(rows[0]) < world:
            raise UserError(
                f"data.eval_batch_size={self.eval_batch_size} and the {len(self.splits[split])} validation images are "
                f"divided over {world} devices; there must be at least one for each"
            )
        return DataLoader(Gather(self.splits[split], split, True, rank, world), sampler=rows, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return self._eval_dataloader("selection", self.trainer.global_rank, self.trainer.world_size)

    def batches(self, split: str, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """The batches of a split as in evaluation, in order, without a Trainer."""
        self.setup()
        for batch in self._eval_dataloader(split):
            moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
            yield self.on_after_batch_transfer(moved, 0)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> Batch:
        index: Tensor = batch["index"]
        if "images" in batch:
            pixels = batch["images"]
        else:
            assert self._resident is not None
            pixels = self._resident[batch["rows"]]
        training = batch["split"] == "train"
        if training:
            assert self.trainer is not None
            keys = fold(self.seed, "train", self.trainer.current_epoch, index.cpu())
            for replacement in self.replacements:
                pixels = replacement(pixels, keys, batch["rows"].cpu(), batch["label"].cpu())
        clean = pixels.permute(0, 3, 1, 2).float().div_(255).contiguous()
        if training:
            if self.flip:
                mirrored = (uniform(fold(keys, "flip"), 1)[:, 0] < 0.5).to(clean.device)
                clean = torch.where(mirrored[:, None, None, None], clean.flip(-1), clean)
            # A draw for the whole batch: its images must be of one size.
            if self.enlarged and uniform(fold(keys[:1], "batch"), 1).item() < self.enlarged:
                clean = enlarged(clean, keys)
            clean = flat_areas(clean, keys, self.flat_areas)
        else:
            keys = fold("evaluation", self.corruption.protocol if self.corruption else 0, index.cpu())
        if self.corruption is None:
            untouched = torch.zeros_like(clean[:, :1], dtype=torch.bool), torch.zeros_like(clean[:, 0, 0, 0])
            return Batch(clean, clean, *untouched, index, batch.get("label"), None, batch["place"])
        degraded, mask, severity = self.corruption(clean, keys)
        kind = None if training else self.corruption.kinds(keys, (clean.shape[-2], clean.shape[-1]))
        return Batch(clean, degraded, mask, severity, index, batch.get("label"), kind, batch["place"])


@dataclass(eq=False, repr=False, kw_only=True)
class FileDataModule(RestorationDataModule):
    """Base class of data sets of image files, which are decoded once; a subclass lists the files (`list_splits`).

    Args, beside those of `RestorationDataModule`:
        root: folder of the images; the decoded images are kept in a hidden folder there.
    """

    root: str
    store_name: ClassVar[str]

    @abstractmethod
    def list_splits(self) -> dict[str, list[Source]]:
        """The image files of "train", "selection" and "test"."""

    def load_splits(self) -> dict[str, Store]:
        cache = Path(self.root) / f".store-{self.image_size}" / self.store_name
        return decode_once(cache, self.list_splits(), self.image_size)
