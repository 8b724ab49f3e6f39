"""Terms are told how much of the training is done."""

import pytest
import torch
from helpers import fit, tiny_module
from torch import Tensor

from restoration.batch import Batch
from restoration.flow import ConditionalField
from restoration.objective import Objective, Term, TermValue


class Watch(Term):
    """Records the progress, and whether there are gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, float]] = []

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        self.seen.append((torch.is_grad_enabled(), progress))
        return TermValue(field.clean(field.start(keys), torch.zeros(len(batch))).square().mean())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_progress_is_the_share_of_all_images(accumulated, tmp_path):
    module, watch = tiny_module(), Watch()
    module.objective = Objective({"watch": watch})
    fit(module, tmp_path, [], max_steps=4, accumulate_grad_batches=accumulated, val_check_interval=4)
    batches = 4 * accumulated
    assert [progress for trains, progress in watch.seen if trains] == [step / batches for step in range(batches)]
    assert {progress for trains, progress in watch.seen if not trains} == {1.0}
