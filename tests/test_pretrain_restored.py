"""Restored variants and extra images by the real command: a share of 0 changes nothing, and mistakes are one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from helpers import complaint, differing, last, run_command
from mnist_files import SHORT, write_digits
from PIL import Image
from random_checkpoint import write_random_checkpoint

from restoration.pretrain import main

RUN = [*SHORT, "data.eval_batch_size=40", "trainer.max_steps=6", "logger.wandb=null"]
RESTORED = ["augmentation=restored", "augmentation.restored.restorer=best.ckpt"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "data", train=60, test=40)
    write_random_checkpoint(tmp_path)
    for name in range(10):
        (tmp_path / "made up" / str(name)).mkdir(parents=True)
        Image.new("RGB", (32, 32), (20 * name, 0, 0)).save(tmp_path / "made up" / str(name) / "1.png")
    yield tmp_path / "outputs" / "mnist_digits"
    wandb.teardown()


def test_a_share_of_0_changes_no_bit_and_others_do(folder: Path):
    own: dict[str, list[str]] = {
        "plain": [],
        "none": [*RESTORED, "augmentation.restored.share=0", "data.extra=made up", "data.extra_share=0"],
        "some": [*RESTORED, "augmentation.restored.share=0.5", "corruption.strength=0.5"],
        "hard": [*RESTORED, f"augmentation.restored.hard={folder / 'plain'}", "augmentation.restored.images=5"],
        "extra": ["data.extra=made up", "data.extra_share=0.3"],
    }
    states = {}
    for name, words in own.items():
        assert run_command(main, *RUN, *words, f"name={name}") == 0
        states[name] = last(folder / name)["state_dict"]
        assert name != "none" or not list(Path("data").rglob("*.bin"))  # nothing is restored in vain
    assert not differing(states["plain"], states["none"])
    for name in ("some", "hard", "extra"):
        assert differing(states["plain"], states[name])
    sizes = {path.stat().st_size // (32 * 32 * 3) for path in Path("data").rglob("restored/*.bin")}
    assert sizes == {5, 58}
    run = json.loads((folder / "some" / "metrics.json").read_text())["run"]
    assert run["corruption"] is None and "strength" not in run  # of the test images
    assert run_command(main, "experiment=mnist_digits", "name=some", "resume=auto", "trainer.max_steps=8") == 0
    assert last(folder / "some")["global_step"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corruption=photo"], "corruption= is the damage of augmentation=restored: give both"),
        (
            ["augmentation=restored", "augmentation.restored=null"],
            "corruption= is the damage of augmentation=restored: give both",
        ),
        ([*RESTORED, "augmentation.restored.share=2"], "augmentation.restored.share=2 must be a number from 0 to 1"),
        ([*RESTORED, "augmentation.restored.nfe=0"], "augmentation.restored.nfe=0 must be a whole number"),
        ([*RESTORED, "augmentation.restored.of=hard"], "unknown key 'augmentation.restored.of'"),
        (["augmentation=restored", "augmentation.restored.restorer=nowhere"], "no checkpoint at nowhere"),
        (
            [*RESTORED, "augmentation.restored.hard=best.ckpt"],
            "is a checkpoint of a restorer; give one of a classifier",
        ),
        (["data.extra=nowhere", "data.extra_share=0.3"], "data.extra=nowhere: there is no such folder"),
        (["data.extra=made up"], "give both data.extra=FOLDER and data.extra_share="),
        (["data.extra=made up", "data.extra_share=1.1"], "data.extra_share=1.1 must be a number from 0 to 1"),
        (["data.extra=data", "data.extra_share=0.3"], "data.extra=data has no images"),
        (
            ["data.extra=made up", "data.extra_share=0.3", "augmentation=none", "transfer=cached_features"],
            "transfer=cached_features sees each image once",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, *RUN, *arguments) == 2
    assert message in complaint(capsys)
