"""A sweep that is killed and started again, and jobs that share a process."""

import random
import re
import time
from pathlib import Path

import pytest
from helpers import TINY, callback_file, last, rows, run_command
from processes import start, wait
from soak import end

from restoration.train import main

JOB = ["experiment=blur_erase", *TINY, "evaluation.nfe=[1]", "trainer.val_check_interval=8"]
SWEEP = Path("outputs/blur_erase/run")


def jobs(folder: Path, file: str) -> set[str]:
    return {path.relative_to(folder / SWEEP).parts[0] for path in (folder / SWEEP).glob(f"*/{file}")}


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Time and content of the results, weights and metrics of all jobs that are done."""
    files = [folder / SWEEP / job for job in jobs(folder, "metrics.json")]
    files = [
        path for job in files for path in (job / "metrics.json", job / "metrics.csv", job / "checkpoints/last.ckpt")
    ]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.slow
def test_a_sweep_of_twelve_jobs_killed_twice(tmp_path: Path):
    draw = random.Random(0)
    strengths, seeds = (0.25, 0.5, 1.0), (0, 1, 2, 3)
    line = [*JOB, "trainer.max_steps=16", "callbacks.last.every_n_minutes=0.002", "resume=auto"]
    sweep = ["-m", *line, "corruption.strength=0.25,0.5,1.0", "seed=0,1,2,3"]
    names = {f"corruption.strength={strength},seed={seed}" for strength in strengths for seed in seeds}
    folder, begun, before = tmp_path / "sweep", set(), {}
    for enough in (draw.randint(2, 4), draw.randint(6, 9)):
        process = start(folder, sweep)
        while len(jobs(folder, "metrics.json")) < enough:
            assert process.is_alive(), (folder / "output.txt").read_text()[-3000:]
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 3))
        while not jobs(folder, "checkpoints/last.ckpt") - jobs(folder, "metrics.json"):
            time.sleep(0.01)  # so that there is a job to resume
        process.kill()
        wait(process)
        done, part = jobs(folder, "metrics.json"), jobs(folder, "checkpoints/*.ckpt")
        steps = {job: last(folder / SWEEP / job)["global_step"] for job in part - done}
        print(f"killed: {len(done)} jobs done, half done: {', '.join(f'{job} (step {n})' for job, n in steps.items())}")
        assert before.items() <= content(folder).items()
        before, begun = content(folder), begun | (part - done)
    assert wait(start(folder, sweep)) == [0], (folder / "output.txt").read_text()[-3000:]
    # What was done before a kill has not been touched; every job has one evaluation in its log of metrics.
    assert before.items() <= content(folder).items() and jobs(folder, "metrics.json") == names
    for job in names:
        assert sum(bool(row.get("test/psnr_nfe1")) for row in rows(folder / SWEEP / job)) == 1, job
    said = (folder / "output.txt").read_text()
    table = said[said.rindex("┏") :]
    print(table)
    former = len({path.parts for path in before if path.name == "metrics.json"})
    assert f"12 jobs: {former} done before, {12 - former} done" in table
    assert dict(re.findall(r"│ (\S+) +│ (done|done before) +│", table)).keys() == names
    # A job that was killed, and one that was not, end as they do alone.
    for job in (min(begun), min(names - begun)):
        strength, seed = re.fullmatch(r"corruption.strength=(\S+),seed=(\d)", job).groups()  # type: ignore[union-attr]
        alone = tmp_path / job
        assert wait(start(alone, [*line, f"corruption.strength={strength}", f"seed={seed}"])) == [0]
        ours, theirs = end(folder / SWEEP / job), end(alone / SWEEP)
        print(f"{job}{' (resumed)' * (job in begun)}: {'equal to' if ours == theirs else 'NOT EQUAL TO'} the job alone")
        assert ours == theirs


@pytest.mark.slow
def test_a_job_ends_as_it_does_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the jobs before it in the process were: one of other settings, one that failed in its training."""
    monkeypatch.chdir(tmp_path)
    line = [*JOB, "trainer.max_steps=8"]
    first = ["trainer.deterministic=true", "trainer.benchmark=true", "corruption.strength=0.3,1.0"]
    flags = callback_file(tmp_path / "conf", "helpers.Spoil", step=2)
    assert run_command(main, *line, *first, "name=others", flags=["-m"]) == 0
    assert run_command(main, *line, "callbacks=extended,default", "seed=5", flags=["-m", *flags]) == 2
    assert run_command(main, *line, "seed=5", "name=alone") == 0
    assert end(SWEEP / "callbacks=default") == end(Path("outputs/blur_erase/alone"))
