"""The benchmark times every backbone in every round, and names unknown ones."""

import sys

import pytest
from helpers import TINY_NETWORK

from restoration.benchmark import main
from restoration.benchmark.ours import build, memory, work
from restoration.benchmark.timing import measure


def test_variants_take_turns_and_the_first_round_does_not_count():
    order: list[str] = []
    seconds = measure([lambda: order.append("a"), lambda: order.append("b")], 3, "cpu")
    assert order == ["a", "b"] * 4 and [len(times) for times in seconds] == [3, 3]


def test_the_table_has_every_backbone_and_the_first_twice(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    variants = ["resnet34_unet", "resnet34_unet_state", "small backbone.depth=2"]
    arguments = [*variants, "--nfe", "1", "2", "--size", "16", "32", "--batch", "4", "--rounds", "1", "--train"]
    main([*arguments, *TINY_NETWORK])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    # Two sizes, of two numbers of evaluations and two stages each.
    assert sum(" resnet34_unet " in line for line in lines) == 2 * 8
    assert sum(" resnet34_unet_state " in line for line in lines) == sum("depth=2" in line for line in lines) == 8
    assert sum("1.00" in line for line in lines) >= 8
    # As many pixels in a batch.
    assert {tuple(line.split("│")[2:4]) for line in lines} == {("     16 ", "     4 "), ("     32 ", "     1 ")}


def test_overrides_of_a_variant_are_applied():
    restorer, _ = build("resnet34_unet_state backbone.depth=3", TINY_NETWORK)
    assert type(restorer.backbone).__name__ == "ResNetUNetState"
    assert len(restorer.backbone.deeper[0]) == 2


@pytest.mark.parametrize("stage, encoder", [("stage 1", False), ("stage 2", True)])
def test_the_encoder_trains_in_stage_2_only(stage: str, encoder: bool):
    restorer, objective = build("small", TINY_NETWORK)
    work(restorer, objective, stage, 16, 2, "cpu", "32-true")()
    groups = restorer.parameter_groups()
    assert all(parameter.requires_grad for parameter in groups["new"])
    assert {p.requires_grad for p in groups["encoder_upper"] + groups["encoder_lower"]} == {encoder}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_per_image_is_that_of_its_pixels():
    """Four times the pixels of activations, within what allocators round."""
    pixels = {size: memory("small", TINY_NETWORK, "stage 2", size, 4, "cpu", "32-true") for size in (128, 256)}
    assert 3 < pixels[256] / pixels[128] < 5
    # At least the 16 channels at half resolution that the two finest layers keep for the backward pass.
    assert pixels[256] > 2 * 16 * 128**2 * 4


@pytest.mark.parametrize(
    "variant, complaint",
    [
        ("resnet43_unet", "no backbone 'resnet43_unet'; there are dit, dit_large, "),
        ("small backbone.depht=1", "Could not override 'backbone.depht'."),
        ("small source=nois", "In 'train': Could not find 'source/nois'"),
    ],
)
def test_an_unknown_name_is_one_line(variant: str, complaint: str, capsys):
    with pytest.raises(SystemExit) as ended:
        main([variant])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"error: {complaint}") and said.count("\n") == 1
