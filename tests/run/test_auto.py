"""resume=auto: it starts, continues, or says that the run is done; and the ways in which a run ends early."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import FEW_PASSES, TINY, callback_file, complaint, last, rows, run_command

from restoration.checkpoint_file import load
from restoration.train import main

RUN = Path("outputs/blur_erase/run")
JOB = ["experiment=blur_erase", *TINY, *FEW_PASSES, "trainer.val_check_interval=2"]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a run of four steps that resume=auto started."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(main, *JOB, "trainer.max_steps=4", "resume=auto") == 0
    return folder


@pytest.fixture
def copied(finished: Path, desk: Path) -> Path:
    shutil.copytree(finished / "outputs", desk / "outputs")
    return desk / RUN


def log(folder: Path = RUN) -> str:
    return (folder / "train.log").read_text()


def test_a_finished_run_is_done_and_a_longer_one_continues(copied: Path):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file() and path.name != "train.log"}
    assert run_command(main, *JOB, "trainer.max_steps=4", "resume=auto") == 0
    assert "this run is done (4 steps); a larger budget.images with resume=auto continues it" in log()
    assert before == {path: path.read_bytes() for path in before}
    assert run_command(main, *JOB, "trainer.max_steps=6", "resume=auto") == 0
    assert last(RUN)["global_step"] == 6
    report = json.loads((RUN / "metrics.json").read_text())["run"]
    assert report["steps"] == 6 and report["images_seen"] == 24
    assert report["training_seconds"] > json.loads(before[copied / "metrics.json"])["run"]["training_seconds"] > 0


def test_a_run_that_was_killed_in_its_evaluation_is_evaluated(copied: Path):
    whole = (copied / "metrics.json").read_text()
    (copied / "metrics.json").write_text(whole[:100])
    assert run_command(main, *JOB, "resume=auto") == 0
    again, before = (json.loads(text)["restored"] for text in ((copied / "metrics.json").read_text(), whole))
    assert again["psnr"] == before["psnr"] and again["ssim"] == before["ssim"]


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(copied: Path):
    path = copied / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert load(path.with_name("previous.ckpt"))["global_step"] == 2
    assert run_command(main, *JOB, "resume=auto") == 0
    assert log().count("now damaged.ckpt); the run continues from the one before, ") == 1
    assert last(copied)["global_step"] == 4
    assert path.with_name("damaged.ckpt").read_bytes() == bytes(content)


def test_a_kill_between_the_two_renames(copied: Path):
    (copied / "checkpoints" / "last.ckpt").unlink()
    assert run_command(main, *JOB, "resume=auto") == 0
    assert last(copied)["global_step"] == 4


def test_two_damaged_checkpoints_are_refused(copied: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("last", "previous"):
        (copied / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK")
    assert run_command(main, *JOB, "resume=auto") == 2
    assert "start again with another name=…" in complaint(capsys)


@pytest.mark.parametrize(
    "more, said",
    [
        ("resume=yes_please", "resume=yes_please must be true or false or auto"),
        ("resume=true", "resume=true, but there is no "),
        ("sampler.nfe=banana", "sampler.nfe=banana must be a whole number from 1 to 1,000"),
        ("sampler.nfe=-1", "sampler.nfe=-1 must be a whole number from 1 to 1,000"),
        ("sampler.nfe=null", "sampler.nfe=null must be a whole number from 1 to 1,000"),
        ("evaluation.nfe=[1,0]", "evaluation.nfe[1]=0 must be a whole number from 1 to 1,000"),
        (
            "callbacks.staged_unfreezing.learning_rates.new=fast",
            "callbacks.staged_unfreezing.learning_rates.new=fast must be a number above 0",
        ),
        ("trainer.accumulate_grad_batches=16", "trainer.accumulate_grad_batches=16 is more than the 6 batches of an"),
    ],
)
def test_what_would_fail_late_is_refused_at_the_start(more: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, *JOB, "trainer.max_steps=2", more) == 2
    assert said in complaint(capsys)
    assert not (RUN / "checkpoints").exists()


@pytest.mark.parametrize("in_validation", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c_says_how_to_continue(in_validation: bool, desk: Path):
    flags = callback_file(desk / "conf", "helpers.Kill", step=2, in_validation=in_validation, number=2)
    assert run_command(main, *JOB, "trainer.max_steps=4", "callbacks=extended", flags=flags) == 130
    said = (
        "stopped; continue with: python -m restoration.train experiment=blur_erase trust=helpers name=run resume=auto"
    )
    assert said in log() and last(RUN)["global_step"] == 2
    assert run_command(main, *said.split("restoration.train ")[1].split()) == 0
    assert last(RUN)["global_step"] == 4 and (RUN / "metrics.json").exists()


def test_an_early_stop_says_so(capsys: pytest.CaptureFixture[str]):
    early = ["callbacks.early_stopping.patience=1", "++callbacks.early_stopping.min_delta=50"]
    assert run_command(main, *JOB, "trainer.max_steps=8", *early) == 0
    said = "stopped early at step 4 of 8: val/psnr did not improve in 1 validations; callbacks.early_stopping=null"
    assert said in log()
    assert run_command(main, *JOB, "trainer.max_steps=8", "resume=auto") == 0  # it is done
    assert "this run is done (4 steps)" in log() and last(RUN)["global_step"] == 4
    given = ["experiment=blur_erase", "name=run", "callbacks.early_stopping=null", "resume=auto"]
    assert run_command(main, *given) == 0
    assert last(RUN)["global_step"] == 8


def test_a_run_ended_early_says_so_again_when_it_is_resumed():
    early = ["callbacks.early_stopping.patience=1", "++callbacks.early_stopping.min_delta=50"]
    assert run_command(main, *JOB, "trainer.max_steps=8", *early) == 0
    assert run_command(main, "experiment=blur_erase", "name=run", "resume=true") == 0
    assert "this run had stopped early, after 1 validations without improvement" in log()


@pytest.mark.parametrize("accumulated, steps", [(4, 4), (3, 6)])
def test_an_accumulated_budget_is_seen(accumulated: int, steps: int):
    """An epoch of six batches of four: four do not divide it, three do. 64 images are asked for."""
    wanted = [f"trainer.accumulate_grad_batches={accumulated}", "budget.images=64", "trainer.val_check_interval=null"]
    assert run_command(main, *JOB, *wanted) == 0
    report = json.loads((RUN / "metrics.json").read_text())["run"]
    batches = last(RUN)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    assert report["steps"] == steps and report["images_seen"] == batches * 4 == steps * accumulated * 4
    assert (RUN / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize(
    "bar", [["callbacks.progress_bar=null"], ["trainer.enable_progress_bar=false"], []], ids=["group", "trainer", "on"]
)
def test_the_bar_counts_steps_and_can_be_turned_off(bar: list[str], capsys: pytest.CaptureFixture[str]):
    shown = [word for word in JOB if "progress_bar" not in word]
    assert run_command(main, *shown, "trainer.max_steps=8", "trainer.val_check_interval=8", *bar) == 0
    said = capsys.readouterr()
    assert ("Epoch " in said.out + said.err) == (not bar)
    if not bar:
        assert "Epoch 1" in said.out and "8/8" in said.out and "Epoch 1/-2" not in said.out


def test_nan_in_validation_ends_the_run(desk: Path, capsys: pytest.CaptureFixture[str]):
    flags = callback_file(desk / "conf", "helpers.SpoilAfter", step=4)
    given = [*JOB, "trainer.max_steps=8", "callbacks=extended", "callbacks.ema=null"]
    assert run_command(main, *given, flags=flags) == 2
    assert "validation is not finite at step 4 (val/loss=nan" in complaint(capsys)
    assert last(RUN)["global_step"] == load(RUN / "checkpoints" / "best.ckpt")["global_step"] == 2
    assert not (RUN / "metrics.json").exists() and rows(RUN)
    assert run_command(main, "experiment=blur_erase", "name=run", "resume=auto", "trust=helpers") == 0
    assert last(RUN)["global_step"] == 8


def test_a_run_that_keeps_no_checkpoint_is_evaluated():
    none = [f"callbacks.{name}=null" for name in ("last", "best", "best_frechet")]
    assert run_command(main, *JOB, "trainer.max_steps=2", *none) == 0
    assert [path.name for path in (RUN / "checkpoints").iterdir()] == ["final.ckpt"]
    assert json.loads((RUN / "metrics.json").read_text())["restored"]["psnr"]
