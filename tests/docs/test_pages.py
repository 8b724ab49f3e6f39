"""The commands of the tutorial and the how-tos, run in the order of the page, on small networks and images."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY_NETWORK, run_command
from PIL import Image

from restoration.compare import main as compare
from restoration.evaluate import main as evaluate
from restoration.restore import main as restore
from restoration.train import main as train
from restoration.tune import main as tune

DOCS = Path(__file__).parents[2] / "docs"
DEAD_LEAVES = ["data=dead_leaves", "data.train_images=32", "data.selection_images=8", "data.test_images=8"]
QUICK = ["evaluation.images=4", "evaluation.spread_samples=0"]
RUN = [
    *("budget.images=32", "validations=1", "data.batch_size=8", "data.eval_batch_size=8", "data.image_size=32"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "callbacks.progress_bar=null", "logger.wandb=null"),
    *("trainer.enable_progress_bar=false", "callbacks.image_grid.nfe=[1]", "callbacks.image_quality.nfe=[1]"),
]
FIRST = "python -m restoration.train experiment=blur_erase name=first"  # the run that a page takes for granted


def commands(page: str) -> list[str]:
    lines = re.findall(r"^    (python -m restoration\..*)$", (DOCS / page).read_text(), re.MULTILINE)
    # The weights in the package are too large a network for a test; tests/run/test_init.py starts from such a file.
    return [line for line in lines if "init=restoration/weights" not in line]


def run(line: str) -> int:
    words = shlex.split(line)
    name, arguments = words[2].removeprefix("restoration."), words[3:]
    flags = [word for word in arguments if word == "-m"]
    keys = [word for word in arguments if word not in flags]
    if name == "train":
        data = [] if "data=image_folder" in keys else DEAD_LEAVES
        return run_command(train, *keys, *data, *TINY_NETWORK, *RUN, *QUICK, flags=flags)
    if name == "compare":
        compare(arguments)
        return 0
    more = {"evaluate": QUICK[:1], "restore": [], "tune": ["images=4", "reference=8"]}[name]
    return run_command({"evaluate": evaluate, "restore": restore, "tune": tune}[name], *keys, *more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "before", "left"),
    [
        (
            "tutorial.md",
            [],
            [
                *("outputs/restored/*.png", "outputs/half/metrics.json", "outputs/strengths/strength.png"),
                *("outputs/strengths/page.html", "outputs/flow.html"),
            ],
        ),
        ("own-data.md", [], ["outputs/blur_erase/photos/metrics.json", "outputs/on_photos/metrics.json"]),
        (
            "few-steps.md",
            [FIRST],
            ["outputs/curve/images/curve.png", "outputs/one_step_blur_erase/one_step/metrics.json"],
        ),
        ("resuming.md", [], ["outputs/blur_erase/first/metrics.json"]),
    ],
)
def test_the_commands_of_a_page_work(
    page: str, before: list[str], left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(draw.integers(256, size=(40, 48, 3), dtype=np.uint8)).save(f"photos/{number}.png")
    for line in [*before, *commands(page)]:
        assert run(line) == 0, line
    for pattern in left:
        assert list(tmp_path.glob(pattern)), pattern


def test_the_pages_have_commands():
    assert {page: len(commands(page)) for page in ("tutorial.md", "own-data.md", "few-steps.md", "resuming.md")} == {
        **{"tutorial.md": 7, "own-data.md": 2},
        **{"few-steps.md": 3, "resuming.md": 1},
    }
