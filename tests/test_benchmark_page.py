"""The tables beside other packages: pinned parameters and operations, absent packages, finite figures, the page."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import TINY_NETWORK
from torch import nn

from restoration.benchmark import contenders as module
from restoration.benchmark import main
from restoration.benchmark.contenders import INSTALL, Contender, contenders, ours, peer
from restoration.benchmark.levers import LEVERS, _variant
from restoration.benchmark.networks import _sample, batches, by_batch, growth, put, sampling, table, training
from restoration.benchmark.page import Figures, read, shown, write
from restoration.benchmark.settings import Settings
from restoration.benchmark.suite import TABLES, introduction
from restoration.benchmark.timing import kept, measure, operations
from restoration.benchmark.trainer import _waiting

QUICK = Settings("cpu", "32-true", rounds=1, smoke=True, overrides=TINY_NETWORK)


@pytest.mark.parametrize(
    "variant, parameters, once, each",
    [
        ("resnet34_unet", 35_613_294, 1_446_111_408, 787_374_080),
        ("resnet34_unet_state", 35_622_702, 100_591_792, 2_142_527_488),
        ("unet", 5_246_709, 82_880_432, 258_523_136),
        ("small", 26_559_102, 1_398_925_488, 416_538_624),
        ("tiny", 8_015_774, 463_108_272, 216_539_136),
        ("dit_tiny", 709_378, 86_026_160, 166_608_896),
    ],
)
def test_parameters_and_operations_are_pinned(variant: str, parameters: int, once: int, each: int):
    """With the estimator; multiplications with addition at 64 x 64 pixels, once per image and in each evaluation."""
    rival = ours(variant, "cpu", "32-true", [])
    assert sum(parameter.numel() for parameter in rival.network.parameters()) == parameters
    one, two = (operations(rival.restoring(64, 1, nfe)) // 2 for nfe in (1, 2))
    assert (2 * one - two, two - one) == (once, each)


def test_operations_of_a_convolution_have_their_closed_form():
    layer, images = nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8)
    assert operations(lambda: layer(images)) == 2 * 2 * 3 * 5 * 9 * 64


def test_memory_for_the_backward_pass_counts_each_storage_once():
    layer, images = nn.Linear(4, 6), torch.rand(10, 4)

    def step():
        hidden = layer(images)  # keeps its input; its weight is no activation
        return (hidden.sigmoid() + hidden.sigmoid()).sum()  # each sigmoid keeps its output

    assert kept(step, layer) == 4 * (10 * 4 + 2 * 10 * 6)


def test_a_slow_call_is_timed_once():
    order: list[str] = []
    calls = [lambda: order.append("a"), lambda: sum(range(100_000)) and order.append("b")]
    seconds = measure(calls, 3, "cpu", slow=-1.0)
    assert [len(times) for times in seconds] == [1, 1] and order == ["a", "b"]


def test_a_package_that_is_absent_has_its_row(monkeypatch: pytest.MonkeyPatch):
    def absent():
        raise ModuleNotFoundError("No module named 'other'")

    monkeypatch.setattr(module, "PEERS", {"other Net": (absent, None)})
    rivals = [Contender("first", nn.Linear(1, 1)), peer("other Net", "cpu", "32-true")]
    figures = table("Title", "Text.", rivals)
    assert figures.rows[1] == {"contender": f"other Net: not installed, `{INSTALL}`"}
    put(figures, "ms", {0: 2.0})
    assert figures.markdown().splitlines()[-1] == f"| other Net: not installed, `{INSTALL}` | – | – |"


@pytest.mark.parametrize("name", module.PEERS)
def test_another_package_trains_and_restores(name: str):
    rival = peer(name, "cpu", "32-true")
    if rival.network is None:
        pytest.skip("not installed")
    rival.step(64, 1)()
    rival.restoring(64, 1, 1)()
    assert rival.repeats


def test_what_takes_too_long_is_multiplied_and_marked():
    slow = Contender("slow", nn.Linear(1, 1))
    figures = table("Title", "Text.", [slow])
    settings = Settings("cpu", "32-true", rounds=1, limit=0.0)
    found = by_batch(figures, [slow], (2, 8), lambda rival, batch: lambda: sum(range(10_000)), settings)
    assert found[8][0] == 4 * found[2][0] and figures.rows[0]["derived"] == ["batch 8, ms"]
    put(figures, "batch 8, ms", {0: 12.0}, ratio=False)
    assert figures.markdown().endswith("| slow | ≈ 12.0 |")


@pytest.mark.parametrize("make", [training, sampling, growth, batches])
def test_the_tables_of_networks_are_finite(make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PEERS", {})
    monkeypatch.setattr(module, "OURS", ("resnet34_unet",))
    rivals = contenders("cpu", "32-true", TINY_NETWORK)
    figures = make(rivals, QUICK)
    assert [row["contender"] for row in figures.rows] == ["resnet34_unet", "resnet34_unet, again"]
    numbers = list(figures.numbers())
    assert len(numbers) >= 4 and all(math.isfinite(number) and number >= 0 for number in numbers)


def test_evaluations_that_cost_the_same_are_multiplied():
    """100 evaluations are the first and 99 times the mean of those after it, or 100 times the one of a peer."""
    peers = Contender("peer", nn.Linear(1, 1), restoring=lambda *_: lambda: None, repeats=True)
    figures = Figures("Title", "Text.", [{"contender": "peer", "derived": []}])
    _sample(figures, [peers], (1, 2, 8, 100), 1, Settings("cpu", "32-true", rounds=1))
    row = figures.rows[0]
    assert row["batch 1, NFE 100"] == pytest.approx(100 * row["batch 1, NFE 1"])
    assert row["derived"] == ["batch 1, NFE 2", "batch 1, NFE 8", "batch 1, NFE 100"]


def test_the_share_of_waiting_is_that_before_batches_are_ready():
    """Of 10 seconds after the second step, 1 and 2 pass before the batches are there."""
    assert _waiting([(0, 1), (9, 10), (11, 15), (17, 20)]) == pytest.approx(0.3)


def test_levers_change_what_they_say():
    label = "no group normalisation"
    network = _variant(label, LEVERS[label], QUICK).network
    assert not any(isinstance(part, nn.GroupNorm) for part in network.backbone.modules())


@pytest.mark.parametrize(
    "cell, text",
    [
        (None, "–"),
        (0, "0"),
        (1234.5, "1,230"),
        (99.99, "100"),
        (12.34, "12.3"),
        (0.5, "0.500"),
        (1e-6, "1.0e-06"),
        ("a", "a"),
    ],
)
def test_numbers_have_three_digits(cell, text: str):
    assert shown(cell) == text


def test_the_page_keeps_the_tables_of_an_earlier_run(tmp_path: Path):
    page = tmp_path / "page.md"
    write(page, "# Title", {"device": "cpu"}, {"one": Figures("One", "Text.", [{"a": 1.0, "b": None}])})
    assert read(page)["one"].rows == [{"a": 1.0, "b": None}]
    assert page.read_text() == "# Title\n\n## One\n\nText.\n\n| a | b |\n| --- | ---: |\n| 1.00 | – |\n"
    assert json.loads((tmp_path / "page.json").read_text())["facts"] == {"device": "cpu"}


def test_neither_backbones_nor_a_page_is_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: give either backbones, such as")


@pytest.mark.slow
def test_all_tables_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`make benchmark-smoke`."""
    main(["--page", str(tmp_path / "benchmarks.md"), "--smoke"])
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert list(content["tables"]) == [name for name in TABLES if name != "quality"]  # which needs runs
    assert all(table["rows"] for table in content["tables"].values())


def test_the_page_in_docs_is_that_of_its_figures():
    page = Path(__file__).parents[1] / "docs" / "benchmarks.md"
    facts = json.loads(page.with_suffix(".json").read_text())["facts"]
    parts = [introduction(facts), *(figures.markdown() for figures in read(page).values())]
    assert page.read_text() == "\n\n".join(parts) + "\n"
