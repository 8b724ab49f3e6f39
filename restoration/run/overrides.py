"""Contenders: named changes to an experiment, files of conf/contender/."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from restoration.errors import UserError
from restoration.run.config import leaves

__all__ = ["check_contender", "contenders"]


def check_contender(config: DictConfig) -> None:
    """Refuse a contender that something else on the command line overrules: its name would tell of another run.

    Raises:
        UserError: names the key or group, and what it would have been.
    """
    runtime = HydraConfig.get().runtime
    for name in contenders():
        files = (Path(source.path) / "contender" / f"{name}.yaml" for source in runtime.config_sources)
        own = OmegaConf.to_container(OmegaConf.load(next(file for file in files if file.is_file())))
        assert isinstance(own, dict)
        sets = {}
        for default in own.pop("defaults", []):
            for group, option in default.items():
                group = group.removeprefix("override /")
                sets[group] = (option, runtime.choices[group])
        sets |= {key: (value, OmegaConf.select(config, key)) for key, value in leaves(own)}
        for key, (wanted, found) in sets.items():
            if wanted != found:
                raise UserError(
                    f"contender={name} is {key}={wanted}, but the command line has {key}={found}; leave one of them out"
                )


def contenders() -> list[str]:
    """The running job's contenders: none, one, or several at once (`contender=[noise,adaptive]`)."""
    for override in HydraConfig.get().overrides.task:
        key, _, names = override.partition("=")
        if key == "contender" and names != "null":
            return [name.strip() for name in names.strip("[]").split(",")]
    return []
