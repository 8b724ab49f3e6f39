"""Where metrics go: a CSV file that survives a resume, and Weights & Biases that never asks and never hangs."""

import csv
import netrc
import os
import secrets
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from restoration.errors import UserError

__all__ = ["RunCSVLogger", "finish_wandb", "folder_run_id", "wandb_logger", "wandb_mode"]

RunMode = Literal["online", "offline", "disabled"]
Mode = Literal["auto", RunMode]

# Seconds. W&B itself waits 90 to start and without limit to finish.
START_TIMEOUT = 20.0
FINISH_TIMEOUT = 300.0


def _credentials() -> bool:
    """Whether W&B would find an API key without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings  # environment variables and settings files, where `login --host` writes
    if settings.api_key:
        return True
    hosts = [urlsplit(settings.base_url).netloc]
    if settings.base_url == wandb.Settings().base_url:
        hosts.append("api.wandb.ai")  # W&B's own server, under the name that earlier logins wrote
    for file in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        try:
            found = [netrc.netrc(Path(file).expanduser()).authenticators(host) for host in hosts]
        except (OSError, netrc.NetrcParseError):
            continue
        return any(entry is not None and entry[2] for entry in found)
    return False


def wandb_mode(requested: Mode = "auto") -> RunMode:
    """The mode of a run. Asks nothing and sends nothing.

    Args:
        requested: "online", "offline" or "disabled"; or "auto", which follows the variable WANDB_MODE. Where that is
            not set, "auto" is online if W&B has a key (WANDB_API_KEY, or what `wandb login` wrote), else offline.

    Raises:
        UserError: another word, here or in WANDB_MODE.
    """
    if requested not in get_args(Mode):
        raise UserError(f"logger.wandb.mode={requested!r} is none of {', '.join(get_args(Mode))}")
    if requested != "auto":
        return requested
    variable = os.environ.get("WANDB_MODE", "").lower()
    if not variable:
        return "online" if _credentials() else "offline"
    mode = {"run": "online", "dryrun": "offline"}.get(variable, variable)  # W&B's older names, which it still reads
    if mode not in get_args(RunMode):
        raise UserError(f"WANDB_MODE={variable!r} is none of {', '.join(get_args(RunMode))}")
    return cast(RunMode, mode)


def folder_run_id(folder: str | Path) -> str:
    """The W&B id of a run folder, so that a resumed job continues the same W&B run.

    It is read from `wandb_run_id.txt`, which the first call writes.
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
    run_id: str | None = None,
) -> WandbLogger:
    """Starts a W&B run and returns Lightning's logger of it; `log_hyperparams` gives the run its config.

    A run that is still open in this process is finished first. If an online start fails (no key, a wrong key, no
    network: at most half a minute), the run starts offline with one warning; `wandb sync` uploads it later.

    Args:
        project, name, group, job_type, tags: as W&B shows them; a sweep is a group.
        save_dir: the run folder; W&B writes into its subfolder `wandb/`.
        mode: see `wandb_mode`.
        run_id: None takes that of the folder (`folder_run_id`). An existing run of this id is continued; offline, a
            second folder of the same id appears, and `wandb sync` joins the two.

    Raises:
        UserError: see `wandb_mode`.
    """
    chosen = wandb_mode(mode)
    finish_wandb()
    run_id = run_id or folder_run_id(save_dir)

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
            group=group,
            job_type=job_type,
            tags=list(tags or []),
            mode=mode,
            settings=settings,
        )
        _ = logger.experiment  # Starts the run now, while a failure can still be handled; a dummy off rank 0.
        return logger

    if chosen == "online":
        try:
            if not _credentials():  # W&B would ask for a key on a terminal
                raise wandb.Error("no API key (WANDB_API_KEY, or `wandb login`)")
            return start("online")
        except (wandb.Error, TimeoutError, OSError) as error:
            warnings.warn(
                f"W&B cannot go online: {str(error).splitlines()[0]}. This run is logged offline; "
                "`wandb sync` uploads it.",
                stacklevel=2,
            )
            wandb.teardown()  # its service process still holds the failed run's id
            chosen = "offline"
    return start(chosen)


class _AppendingWriter(ExperimentWriter):
    """Appends to an existing metrics.csv, which Lightning's writer would delete."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])
            if not self.metrics_keys:
                path.unlink()


class RunCSVLogger(CSVLogger):
    """`<save_dir>/metrics.csv`: one row per logged step, continued when a run resumes.

    A resumed run repeats the steps after its last checkpoint; their rows then appear twice, the later ones last.

    Args:
        save_dir: the run folder.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="")

    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Does nothing: the run folder has config.yaml."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment
