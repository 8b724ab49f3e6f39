"""Sweeps: names of jobs, failures, the table at the end, exit statuses. The training itself is replaced."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import run_command
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from examples import metrics

from restoration.errors import UserError
from restoration.report.folder import Report
from restoration.run.isolation import isolated
from restoration.run.job import done_before
from restoration.run.overrides import Overrides
from restoration.run.resume import done
from restoration.run.sweep import job_name
from restoration.train import main

SWEEP = Path("outputs/blur_erase/s")
LINE = ["experiment=blur_erase", "name=s", "resume=auto"]


@pytest.fixture(autouse=True)
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that trained. `errors/SEED` with the name of an error makes the job of that seed fail."""
    monkeypatch.chdir(tmp_path)
    jobs: list[str] = []

    def train(config: DictConfig) -> Report:
        folder = Path(config.folder)
        if done(config, folder):
            return done_before(folder)
        jobs.append(folder.name)
        if (error := Path("errors", str(config.seed))).exists():
            kinds = {
                "user": UserError("choose another seed"),
                "bug": RuntimeError("a bug"),
                "stop": KeyboardInterrupt(),
            }
            if error.read_text() in kinds:
                raise kinds[error.read_text()]
        results = metrics(config.corruption.strength)
        results["run"] |= {"steps": 2, "overrides": Overrides().of_run, "name": f"s/{folder.name}"}
        (folder / "metrics.json").write_text(json.dumps(results))
        return Report.load(folder)

    monkeypatch.setattr("restoration.train.train", train)
    monkeypatch.setattr(
        "restoration.run.command.reference_config", lambda: DictConfig({})
    )  # composing takes most of the time
    monkeypatch.setattr("restoration.run.command.check_keys", lambda *_: None)
    return jobs


def fail(**kinds: str) -> None:
    Path("errors").mkdir(exist_ok=True)
    for seed, kind in kinds.items():
        Path("errors", seed.removeprefix("seed_")).write_text(kind)


def states(said: str) -> dict[str, str]:
    """Job and state, from the last table."""
    cells = [line.strip("│").split("│") for line in said[said.rindex("┏") :].splitlines() if line.startswith("│")]
    return {job.strip(): state.strip() for job, state in cells}


def test_failures_and_ctrl_c_and_the_second_start(trained: list[str], capsys):
    fail(seed_1="user", seed_2="bug", seed_3="stop")
    assert run_command(main, "seed=0,1,2,3,4", "++corruption.strength=0.5", flags=["-m"]) == 130
    said = capsys.readouterr()
    assert states(said.out) == {
        "seed=0": "done",
        "seed=1": "failed: choose another seed",
        "seed=2": "failed: RuntimeError: a bug; the traceback is in its log",
        "seed=3": "not finished",
        "seed=4": "not started",
    }
    (sweep,) = Path("outputs/blur_erase").iterdir()
    again = f"seed=0,1,2,3,4 corruption.strength=0.5 name={sweep.name} resume=auto"
    assert said.out.splitlines()[-2:] == [
        "5 jobs: 1 done, 2 failed, 1 not finished, 1 not started",
        f"continue with: python -m restoration.train -m {again}",
    ]
    # One traceback, that of the bug, on stderr and in the log of its job; none of Hydra.
    assert said.err.count("Traceback") == (sweep / "seed=2" / "train.log").read_text().count("Traceback") == 1
    assert "continue with" not in said.err and said.err.endswith("interrupted\n")

    fail(seed_2="none", seed_3="none")
    trained.clear()
    assert run_command(main, *again.split(), flags=["-m"]) == 2
    said = capsys.readouterr()
    assert trained == ["seed=1", "seed=2", "seed=3", "seed=4"] and said.err.count("this run is done (2 steps)") == 1
    assert list(states(said.out).values()) == ["done before", "failed: choose another seed", "done", "done", "done"]
    assert said.out.count("│ s/seed=") == 4 * 2  # the results of four jobs at two NFE
    assert "Traceback" not in said.err and "HYDRA" not in said.err and "Error executing" not in said.err
    assert said.out.splitlines()[-1] == f"continue with: python -m restoration.train -m {again}"


def test_an_override_may_refer_to_the_run_folder(trained: list[str], capsys):
    extra = "++logger.wandb={_target_: restoration.training.loggers.RunCSVLogger, save_dir: '${folder}', name: extra}"
    assert run_command(main, *LINE, "seed=0,1", extra, flags=["-m"]) == 0
    assert states(capsys.readouterr().out) == {"seed=0": "done", "seed=1": "done"}


def test_a_sweep_over_experiments_has_a_folder_in_each(capsys):
    assert run_command(main, "experiment=demo,blur_erase", *LINE[1:], flags=["-m"]) == 0
    reports = sorted(Path("outputs").rglob("metrics.json"))
    assert [str(path.parent) for path in reports] == [
        "outputs/blur_erase/s/experiment=blur_erase",
        "outputs/demo/s/experiment=demo",
    ]
    assert states(capsys.readouterr().out) == {"experiment=demo": "done", "experiment=blur_erase": "done"}


def test_a_figure_that_is_not_finite_does_not_reach_a_sweeper(monkeypatch: pytest.MonkeyPatch, capsys):
    results = metrics(0.5)
    results["restored"] = {"psnr": float("nan")}
    monkeypatch.setattr("restoration.train.train", lambda config: Report(Path(config.folder), results))
    assert run_command(main, *LINE, "seed=0", flags=["-m"]) == 2
    assert states(capsys.readouterr().out) == {
        "0": "failed: PSNR of the restored images is nan; per_image.csv in the run folder shows where"
    }


@pytest.mark.parametrize(
    "overrides, name",
    [
        (["experiment=demo", "seed=1", "++corruption.strength=0.25"], "corruption.strength=0.25,seed=1"),
        (["++corruption.strength=0.25", "experiment=demo", "seed=1"], "corruption.strength=0.25,seed=1"),
        (["experiment=demo"], "0"),
        (["ablation=[noise,adaptive]"], "ablation=[noise,adaptive]"),
    ],
)
def test_a_job_is_named_by_what_varies(overrides: list[str], name: str):
    assert job_name(overrides, ["experiment"]) == name


def test_names_are_file_names_and_differ():
    values = ["'a/b'", "'a_b'", "'../b'", "'a b'", "'ä'", "a" * 300, "a" * 301, "null", "'x:y'"]
    names = [job_name([f"data.root={value}"], []) for value in values]
    assert len(set(names)) == len(names)
    assert all("/" not in name and " " not in name and name.isascii() and len(name) < 140 for name in names)


def test_a_job_leaves_its_process_as_it_was():
    def settings() -> list[object]:
        return [
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.benchmark,
            dict(os.environ),
            warnings.filters[:],
            signal.getsignal(signal.SIGTERM),
        ]

    before = settings()
    with pytest.raises(ValueError), isolated():
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        os.environ["ADDED"] = os.environ["PATH"] = "changed"
        warnings.simplefilter("error")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise ValueError
    assert settings() == before
