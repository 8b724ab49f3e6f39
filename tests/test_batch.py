"""The batch checks the shapes and types of its fields."""

import pytest
import torch

from restoration.batch import Batch


def parts(**changes) -> dict:
    return {
        "clean": torch.rand(2, 3, 8, 6),
        "degraded": torch.rand(2, 3, 8, 6),
        "mask": torch.zeros(2, 1, 8, 6, dtype=torch.bool),
        "severity": torch.rand(2),
        "index": torch.arange(2),
        **changes,
    }


def test_a_complete_batch_is_accepted():
    assert len(Batch(**parts(label=torch.tensor([4, 5])))) == 2


@pytest.mark.parametrize(
    "name, value",
    [
        ("clean", torch.rand(2, 1, 8, 6)),
        ("clean", torch.rand(2, 3, 8, 6).double()),
        ("degraded", torch.rand(2, 3, 6, 8)),
        ("degraded", (torch.rand(2, 3, 8, 6) * 255).byte()),
        ("mask", torch.zeros(2, 3, 8, 6, dtype=torch.bool)),
        ("mask", torch.zeros(2, 1, 8, 6)),
        ("severity", torch.rand(2, 1)),
        ("index", torch.arange(2).float()),
    ],
)
def test_a_field_of_another_shape_or_type_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} "):
        Batch(**parts(**{name: value}))


def test_the_first_images_keep_every_field():
    batch = Batch(**parts(kind=["a", "b"]))
    first = batch.first(1)
    assert len(first) == 1 and first.kind == ["a"] and first.label is None
    assert torch.equal(first.clean, batch.clean[:1])
