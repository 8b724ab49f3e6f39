"""What the configs of several runs do not have in common."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from restoration.arguments import leaves
from restoration.errors import UserError
from restoration.report.folder import Report

# They name the run, or follow from the machine; `run.label` and `run.group` repeat them.
_NAMES = {"name", "folder", "resume", "run.label", "run.group", "run.derived"}


def run_file(report: Report, name: str) -> Path | None:
    """A file of the run folder; for a later evaluation, which is a folder in it, that of the run. None if missing."""
    places = [report.folder, report.folder.resolve().parent] if "checkpoint" in report.run else [report.folder]
    return next((place / name for place in places if (place / name).is_file()), None)


def settings(report: Report) -> dict[str, str] | None:
    """Dotted key -> value of the run's config, without its names and places; None if it has no config.yaml.

    Raises:
        UserError: config.yaml cannot be read.
    """
    path = run_file(report, "config.yaml")
    if path is None:
        return None
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not the config of a run")
    own = str(config.get("folder") or "")
    values = {key: str(value) for key, value in leaves(config) if key not in _NAMES}
    # Places below the run folder differ with it.
    return {key: value for key, value in values.items() if not own or not value.startswith(own)}


def differences(reports: Sequence[Report]) -> tuple[list[int], list[tuple[str, list[str]]]]:
    """The keys of config.yaml that are not equal in all runs.

    Returns:
        Numbers of the runs that have a config, and dotted key -> value in each of these; "–" where it is missing.

    Raises:
        UserError: a config.yaml cannot be read.
    """
    found = {number: values for number, report in enumerate(reports) if (values := settings(report)) is not None}
    numbers, configs = list(found), list(found.values())
    keys = sorted({key for config in configs for key in config})
    table = [(key, [config.get(key, "–") for config in configs]) for key in keys]
    return numbers, [(key, values) for key, values in table if len(set(values)) > 1]
