"""The benchmark times every backbone in every round, and says what it does not know."""

import pytest
import torch
from helpers import TINY_NETWORK

from restoration.benchmark import build, main, measure


def test_restorers_take_turns_and_the_first_round_does_not_count():
    order = []

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def restore(self, degraded: torch.Tensor, keys: torch.Tensor, nfe: int) -> None:
            assert degraded.shape == (2, 3, 8, 8) and len(keys) == 2 and nfe == 4
            order.append(self.name)

    seconds = measure([Counting("a"), Counting("b")], 4, 8, 2, 3, "cpu", "32-true")
    assert order == ["a", "b"] * 4 and [len(times) for times in seconds] == [3, 3]


def test_the_table_has_every_backbone_and_the_first_twice(capsys):
    arguments = ["resnet34_unet", "resnet34_unet_state", "--nfe", "1", "2", "--size", "16", "--batch", "2"]
    main([*arguments, "--rounds", "1", *TINY_NETWORK])
    lines = capsys.readouterr().out.splitlines()
    assert sum(" resnet34_unet " in line for line in lines) == 4
    assert sum(" resnet34_unet_state " in line for line in lines) == 2
    assert sum("1.00" in line for line in lines) >= 2


def test_what_is_built_is_what_was_asked_for():
    assert type(build("resnet34_unet_state", TINY_NETWORK).backbone).__name__ == "ResNetUNetState"


def test_an_unknown_backbone_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["resnet43_unet"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: no backbone 'resnet43_unet'; there are resnet34_unet, ")
