"""Where metrics go: a CSV file that survives a resume, and Weights & Biases that never asks and never hangs."""

import csv
import os
import secrets
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from wandb.sdk import wandb_setup
from wandb.sdk.lib import wbauth

from restoration.errors import UserError

__all__ = ["RunCSVLogger", "finish_wandb", "run_id", "wandb_logger", "wandb_mode"]

Mode = Literal["auto", "online", "offline", "disabled"]

# Seconds. W&B's own are 90 to start and no limit to finish: a run must neither wait for a dead network nor end on one.
START_TIMEOUT = 20.0
FINISH_TIMEOUT = 300.0


def _credentials() -> bool:
    """True where W&B would find a key without asking."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb_setup.singleton().settings
    try:
        return bool(settings.api_key or wbauth.read_netrc_auth(host=settings.base_url))
    except wandb.errors.AuthenticationError:
        return False


def wandb_mode(requested: Mode = "auto") -> Literal["online", "offline", "disabled"]:
    """The mode a run gets.

    Args:
        requested: "online", "offline" and "disabled" are taken at their word; "auto" follows the variable WANDB_MODE,
            and without it goes online where W&B has a key (WANDB_API_KEY, or `wandb login`'s netrc entry), else
            offline. Nothing is asked and nothing is sent.

    Raises:
        UserError: another word, here or in WANDB_MODE.
    """
    if requested not in get_args(Mode):
        raise UserError(f"logger.wandb.mode={requested!r} is none of {', '.join(get_args(Mode))}")
    if requested != "auto":
        return requested
    from_environment = os.environ.get("WANDB_MODE", "").lower()
    # The second spellings are W&B's older ones, which it still reads.
    known: dict[str, Literal["online", "offline", "disabled"]] = {
        "online": "online",
        "run": "online",
        "offline": "offline",
        "dryrun": "offline",
        "disabled": "disabled",
    }
    if from_environment:
        if from_environment not in known:
            raise UserError(f"WANDB_MODE={from_environment!r} is none of online, offline, disabled")
        return known[from_environment]
    return "online" if _credentials() else "offline"


def run_id(folder: str | Path) -> str:
    """The W&B id of the job that owns a run folder, so that a resumed job continues the same W&B run.

    Read from `wandb_run_id.txt`; drawn and written there the first time.
    """
    path = Path(folder) / "wandb_run_id.txt"
    if path.is_file() and (known := path.read_text().strip()):
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = secrets.token_hex(4)
    path.write_text(fresh + "\n")
    return fresh


def finish_wandb(exit_code: int = 0) -> None:
    """Closes this process's W&B run, if there is one; otherwise the next job of a sweep would write into it."""
    if wandb.run is not None:
        wandb.finish(exit_code=exit_code)


def wandb_logger(
    project: str,
    save_dir: str | Path,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: list[str] | None = None,
    mode: Mode = "auto",
    config: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> WandbLogger:
    """Starts a W&B run, and gives Lightning's logger of it.

    A run still open in this process is finished first. Where an online start fails (no key, a wrong key, no network:
    at most half a minute), the run starts offline with one warning; `wandb sync` sends it later.

    Args:
        project, name, group, job_type, tags: as W&B shows them; a sweep is a group.
        save_dir: W&B writes into its subfolder `wandb/`.
        mode: see `wandb_mode`.
        config: plain containers, shown as the run's columns.
        run_id: see the function `run_id`. An existing run of this id is continued; offline, a second folder of the
            same id appears, and `wandb sync` joins the two.

    Raises:
        UserError: see `wandb_mode`.
    """
    chosen = wandb_mode(mode)
    finish_wandb()
    if chosen == "online" and not _credentials():
        # W&B would ask for a key on a terminal.
        chosen = _offline("no API key (WANDB_API_KEY, or `wandb login`)")
    Path(save_dir).mkdir(parents=True, exist_ok=True)

    def start(mode: str) -> WandbLogger:
        settings = wandb.Settings(
            init_timeout=START_TIMEOUT, login_timeout=START_TIMEOUT, finish_timeout=FINISH_TIMEOUT, quiet=True
        )
        # `mode`, not `offline=True`: that one sets WANDB_MODE for the whole process and all later jobs.
        logger = WandbLogger(
            project=project,
            name=name,
            save_dir=save_dir,
            id=run_id,
            resume="allow",
            group=group,
            job_type=job_type,
            tags=list(tags or []),
            mode=mode,
            config=config,
            settings=settings,
        )
        _ = logger.experiment  # Starts the run now, where a failure can still be answered; a dummy off rank 0.
        return logger

    if chosen == "online":
        try:
            return start("online")
        except (wandb.Error, TimeoutError, OSError) as error:
            chosen = _offline(str(error).splitlines()[0])
            wandb.teardown()  # Its service process still holds the failed run's id.
    return start(chosen)


def _offline(reason: str) -> Literal["offline"]:
    warnings.warn(f"W&B cannot go online: {reason}. This run is logged offline; `wandb sync` sends it.", stacklevel=3)
    return "offline"


class _KeepingWriter(ExperimentWriter):
    """Appends to a metrics.csv that is there; Lightning's deletes it."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])
            if not self.metrics_keys:
                path.unlink()


class RunCSVLogger(CSVLogger):
    """`<save_dir>/metrics.csv`: one row per logged step, kept and continued when a run resumes.

    A resumed run repeats the steps after its last checkpoint; their rows then appear twice, the later ones last.

    Args:
        save_dir: the run folder.
        flush_logs_every_n_steps: how often rows reach the disk.
    """

    def __init__(self, save_dir: str | Path, flush_logs_every_n_steps: int = 100) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _KeepingWriter(log_dir=self.log_dir)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment
