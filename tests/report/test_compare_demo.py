"""The lines of `make compare-demo`, on tiny networks: their page has both runs, with pictures at each NFE."""

import json
import re
import shlex
from pathlib import Path

import pytest
from helpers import TINY_DATA, TINY_NETWORK, TINY_RUN, run_command

from restoration.compare import main as compare
from restoration.train import main as train

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()
SMALL = [key for key in TINY_DATA + TINY_NETWORK + TINY_RUN if key not in ("data=dead_leaves", "name=run")]


def recipe() -> list[list[str]]:
    """The words of each line after the name of the module."""
    shared = re.search(r"^COMPARED := (.*)$", MAKEFILE, re.MULTILINE)
    lines = re.search(r"^compare-demo:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert shared and lines
    text = lines[1].replace("\\\n", " ").replace("$(COMPARED)", shared[1])
    return [shlex.split(line)[2:] for line in text.splitlines()]


@pytest.mark.slow
def test_compare_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    *trainings, (module, *arguments) = recipe()
    assert [words[0] for words in trainings] == ["restoration.train"] * 2 and module == "restoration.compare"
    for _, *keys in trainings:
        assert run_command(train, *keys, *SMALL, "budget.images=16") == 0
    compare(arguments)
    compare(arguments)  # it can be made again
    page = Path("outputs/compare-demo/page.html").read_text()
    names = {json.loads(file.read_text())["run"]["name"] for file in Path("outputs/compare-demo").rglob("metrics.json")}
    assert names == {"regression", "flow"} and all(name in page for name in names)
    assert len(list(Path("outputs/compare-demo").glob("*/images/samples/*_nfe1.png"))) == 8  # four of each
    assert len(list(Path("outputs/compare-demo/flow/images/samples").glob("*_nfe8.png"))) == 4
