"""Sweeps through Hydra's launchers: what Slurm is asked for, and two jobs through submitit and joblib."""

import os
import re
import sys
from pathlib import Path

import pytest
import submitit
from helpers import TINY, run_command

from restoration.train import main

SLURM = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
# Stands for Slurm: keeps the script, and whether the folder of its log exists, without which the job fails silently.
SBATCH = """#!/bin/bash
cp "$1" submitted.txt
folder=$(dirname "$(grep -oP '(?<=--output=).*' "$1" | tr -d "'")")
[ -d "$folder" ] && touch log_folder_exists
echo Submitted batch job 7
"""


class SubmittedError(Exception):
    """Ends the launcher, which would wait for the jobs."""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_job_script_is_the_golden_one(desk: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in {"sbatch": SBATCH, "srun": "#!/bin/bash\n"}.items():
        (desk / "bin").mkdir(exist_ok=True)
        (desk / "bin" / name).write_text(text)
        (desk / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{desk / 'bin'}:{os.environ['PATH']}")

    def submitted(job: submitit.SlurmJob) -> list[None]:
        raise SubmittedError

    monkeypatch.setattr(submitit.SlurmJob, "results", submitted)
    assert run_command(main, *TINY, *SLURM, "name=sweep", "resume=auto", "seed=0,1", flags=["-m"]) != 0
    text = (desk / "submitted.txt").read_text().replace(str(desk), "FOLDER").replace(sys.executable, "PYTHON")
    golden = Path(__file__).with_name("sbatch.txt")
    assert re.sub(r"\d{4}-\d\d-\d\d_[\d-]+", "TIME", text).strip() == golden.read_text().strip()
    assert (desk / "log_folder_exists").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_two_jobs_on_this_machine(launcher: str, desk: Path):
    given = [*TINY, "evaluation.nfe=[1]", "trainer.max_steps=2", "resume=auto", "seed=0,1"]
    assert run_command(main, *given, f"hydra/launcher={launcher}", flags=["-m"]) == 0
    found = sorted(Path("outputs/blur_erase/run").glob("*/metrics.json"))
    assert len(found) == 2 and all((path.parent / "checkpoints" / "last.ckpt").is_file() for path in found)
