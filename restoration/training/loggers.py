"""Where metrics go: a CSV file that survives a resume, and Weights & Biases that never asks and never hangs."""

import csv
import netrc
import os
import secrets
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from restoration.errors import UserError

MODES = ("online", "offline", "disabled")

# Seconds. W&B itself waits 90 to start and without limit to finish.
START_TIMEOUT = 20.0
FINISH_TIMEOUT = 300.0


def _credentials() -> bool:
    """Whether W&B would find an API key without asking for one."""
    settings = wandb.setup().settings  # environment variables and settings files, where `login --host` writes
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    hosts = [urlsplit(settings.base_url).netloc]
    if settings.base_url == wandb.Settings().base_url:
        hosts.append("api.wandb.ai")  # W&B's own server, under the name that earlier logins wrote
    try:
        file = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser())
    except (OSError, netrc.NetrcParseError):
        return False
    return any((entry := file.authenticators(host)) and entry[2] for host in hosts)


def wandb_mode(requested: str = "auto") -> str:
    """The mode of a run: "online", "offline" or "disabled". Asks nothing and sends nothing.

    Args:
        requested: one of these; or "auto", which follows the variable WANDB_MODE. Where that is not set, "auto" is
            online if W&B has a key (WANDB_API_KEY, or what `wandb login` wrote), else offline.

    Raises:
        UserError: another word, here or in WANDB_MODE.
    """
    name, mode = "logger.wandb.mode", requested
    if requested == "auto":
        name, mode = "WANDB_MODE", os.environ.get("WANDB_MODE", "").lower()
        mode = mode or ("online" if _credentials() else "offline")
    if mode not in MODES:
        raise UserError(f"{name}={mode!r} is none of {', '.join(MODES)}")
    return mode


def folder_run_id(folder: str | Path) -> str:
    """The W&B id of a run folder, so that a resumed job continues the same W&B run.

    It is read from `wandb_run_id.txt`, which the first call writes.
    """
    path = Path(folder) / "wandb_run_id.txt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def wandb_logger(
    project: str,
    save_dir: str | Path,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Sequence[str] = (),
    mode: Literal["auto", "online", "offline", "disabled"] = "auto",
) -> WandbLogger:
    """Starts a W&B run and returns Lightning's logger of it; `log_hyperparams` gives the run its config.

    A run that is still open in this process is finished first. If an online start fails (no key, a wrong key, no
    network: at most half a minute), the run starts offline with one warning; `wandb sync` uploads it later. The id is
    that of the folder (`folder_run_id`): an existing run is continued; offline, a second folder of the same id
    appears, and `wandb sync` joins the two.

    Args:
        project, name, group, job_type, tags: as W&B shows them; a sweep is a group.
        save_dir: the run folder; W&B writes into its subfolder `wandb/`.
        mode: as in `wandb_mode`, with its errors.
    """
    chosen = wandb_mode(mode)
    wandb.finish()

    def start(mode: str) -> WandbLogger:
        settings = wandb.Settings(
            init_timeout=START_TIMEOUT, login_timeout=START_TIMEOUT, finish_timeout=FINISH_TIMEOUT, quiet=True
        )
        # `mode`, not `offline=True`: that one sets WANDB_MODE for the whole process and all later jobs.
        logger = WandbLogger(
            project=project,
            name=name,
            save_dir=save_dir,
            id=folder_run_id(save_dir) if rank_zero_only.rank == 0 else None,  # type: ignore[attr-defined]
            group=group,
            job_type=job_type,
            tags=list(tags),
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
            reason = str(error).splitlines()[0]
            message = f"W&B cannot go online: {reason}. This run is logged offline; `wandb sync` uploads it."
            warnings.warn(message, stacklevel=2)
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
    """`metrics.csv` in the run folder `save_dir`: one row per logged step, continued when a run resumes.

    A resumed run repeats the steps after its last checkpoint; their rows then appear twice, the later ones last.
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
