"""What a training says on the terminal and in its log."""

import logging
import warnings

from restoration.run.hardware import be_quiet, first_process


def configure_logging() -> None:
    """Lightning's warnings once, in train.log too; without those that this project handles by design."""
    for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    for message in (
        ".*module\\(s\\) in eval mode at the start.*",  # the encoder's batch statistics are frozen
        ".*does not have many workers.*",  # gathering from the store is faster without
        ".*dataloader is not resumable.*",  # the sampler is: it starts at the interrupted batch
        ".*isinstance\\(treespec, LeafSpec\\).*",  # between Lightning and torch
        ".*sync_dist=True.*",  # image_quality sums over ranks itself
    ):
        warnings.filterwarnings("ignore", message=message)
    if not first_process():
        be_quiet()
