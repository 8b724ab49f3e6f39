"""The batch at which a training stopped is kept with the weights, and one command repeats the step."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CONF, FEW_PASSES, TINY, callback_file, last, run_command
from lightning.pytorch import Callback

from restoration.checkpoint_file import broken, load, save
from restoration.errors import UserError
from restoration.run.failed_batch import repeat
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.max_steps=6", "trainer.val_check_interval=2"]
CPU = torch.device("cpu")


class SpoilBatch(Callback):
    """One degraded image of a step is NaN."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            batch.degraded[1] = float("nan")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file of a run whose batch of step 3 was not finite, and the message."""
    folder = tmp_path_factory.mktemp("failed")
    flags = callback_file(folder / "conf", "test_failed_batch.SpoilBatch", step=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(Path(__file__).parent))
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: said.extend(map(str, words)))
        assert run_command(main, *JOB, "callbacks=extended", flags=flags) == 2
    return folder / RUN / "failed_batch.pt", next(word for word in said if word.startswith("error: "))


def test_the_message_names_the_file_and_the_command(failed: tuple[Path, str]):
    path, said = failed
    assert said.startswith("error: the training loss is not finite at step 4 (loss")
    assert said.endswith(f". python -m restoration.run.failed_batch {path} repeats the step") and "\n" not in said
    assert last(path.parent)["global_step"] == 2  # the last checkpoint is that of the last validation


def test_the_step_is_repeated(failed: tuple[Path, str]):
    dump = load(failed[0])
    assert dump["step"] == 4 and broken(dump) is None  # the bad step did not reach the weights
    assert dump["batch"]["degraded"].isnan().flatten(1).any(1).tolist() == [False, True, False, False]
    summary, output, gradient = repeat(str(failed[0]), CPU)
    assert summary.startswith("step 4, 4 images: loss nan, flow nan")
    assert output.startswith("the output of restorer.") and output.endswith("is not finite")
    assert gradient.startswith("gradient: Function '") and "nan values" in gradient


def test_a_broken_weight_and_an_innocent_batch(failed: tuple[Path, str], tmp_path: Path):
    dump = load(failed[0])
    dump["batch"]["degraded"] = dump["batch"]["clean"]
    save(dump, tmp_path / "good.pt")
    assert repeat(str(tmp_path / "good.pt"), CPU)[1:] == ["all outputs and gradients are finite"]
    assert "gradient norm" in repeat(str(tmp_path / "good.pt"), CPU)[0]
    name = next(iter(name for name, value in dump["state_dict"].items() if value.is_floating_point()))
    dump["state_dict"][name].fill_(float("inf"))
    save(dump, tmp_path / "bad.pt")
    assert repeat(str(tmp_path / "bad.pt"), CPU)[1] == f"the weight {name} is not finite"


def test_a_file_that_names_other_code_is_refused(failed: tuple[Path, str], tmp_path: Path):
    dump = load(failed[0])
    dump["config"]["objective"]["_target_"] = "os.system"
    save(dump, tmp_path / "crafted.pt")
    with pytest.raises(UserError, match="nothing was executed"):
        repeat(str(tmp_path / "crafted.pt"), CPU)
    (tmp_path / "text.pt").write_text("text")
    for path in (tmp_path / "text.pt", tmp_path / "missing.pt"):
        with pytest.raises(UserError, match="is not a failed_batch.pt, or is damaged"):
            repeat(str(path), CPU)


@pytest.mark.slow
def test_the_documented_command(failed: tuple[Path, str]):
    command = [sys.executable, "-m", "restoration.run.failed_batch", str(failed[0])]
    ended = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(CONF.parent)})
    assert ended.returncode == 0 and ended.stdout.startswith("step 4, 4 images: loss nan"), ended.stderr
