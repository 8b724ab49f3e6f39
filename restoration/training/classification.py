"""The Lightning module of a classifier."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from restoration.batch import Batch
from restoration.classifier import Augmentation, Classifier, Full, Resizing
from restoration.classifier.features import FeatureCache
from restoration.keyed import fold
from restoration.metrics.recognition import recognition_metrics
from restoration.training.module import TrainingModule


class ClassifierModule(TrainingModule):
    """Trains a classifier on clean images with labels.

    Logs `val/top1`, `val/top5`, `val/f1` and `val/ece` (`recognition_metrics`).

    Args, beside those of `TrainingModule`:
        classifier: what is trained.
        loss: () from logits (B, C) and labels (B,) or shares of the classes (B, C).
        augmentation: varies training images.
        transfer: what trains. The classifier is `prepare`d by it already.
        resizing: makes training images smaller early on, or None.
        l1: times the sum of |w| over the decayed weights that train, added to the loss in training.
        compile: compiles the network in place; checkpoint keys do not change.
    """

    trains = "classifier"

    def __init__(
        self,
        classifier: Classifier,
        loss: nn.Module,
        augmentation: Augmentation,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Callable[[int, int], float],
        config: dict[str, Any],
        seed: int = 0,
        compile: bool = False,
        transfer: Full | None = None,
        resizing: Resizing | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__(optimizer, schedule, config, seed)
        self.classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss
        self.augmentation = augmentation
        self.transfer = transfer or Full()
        self.resizing = resizing
        self.l1 = l1
        self._cache: FeatureCache | None = None
        self.metrics = recognition_metrics(len(classifier.classes), "val/")
        if compile:
            classifier.model.compile()

    def parameter_groups(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        return self.transfer.parameter_groups(self.classifier.model)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.transfer.cached:
            self._cache = FeatureCache(self.classifier)

    def keys(self, batch: Batch) -> Tensor:
        """The keys int64 (B,), on the CPU, of the draws of a training step; all are that of its number."""
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return fold(self.seed, "classifier", batches.processed, self.global_rank).expand(len(batch))

    def terms(self, batch: Batch, keys: Tensor, progress: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.label is not None
        images, targets = batch.clean, batch.label
        cached = self._cache if self.training else None
        if self.training and cached is None:
            # Of augmentation, dropout and drop path, so that a resumed run goes on as it would have.
            torch.manual_seed(int(keys[0]))
            images, targets = self.augmentation(images, targets, len(self.classifier.classes))
            images = images if self.resizing is None else self.resizing(images, progress)
        logits = self.classifier(images) if cached is None else cached.logits(images, batch.index)
        loss = self.loss(logits, targets)
        if not (self.training and self.l1):
            return loss, {}
        l1 = self.l1 * self.absolute_weights()
        return loss + l1, {"classes": loss.detach(), "l1": l1.detach()}

    def absolute_weights(self) -> Tensor:
        """Σ|w| over the kernels and matrices that train, each once."""
        groups = self.transfer.parameter_groups(self.classifier.model)
        decayed = {weight for name, (part, _) in groups.items() if name.startswith("weights") for weight in part}
        return torch.stack([weight.float().abs().sum() for weight in decayed]).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert batch.label is not None
        logits = self.classifier(batch.clean)
        self.metrics.update(logits.softmax(dim=1), batch.label)
        self._log_terms("val", {"loss": self.loss(logits, batch.label)}, batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute(), prog_bar=False)
        self.metrics.reset()
