"""A checkpoint opened with its data, both with the changes that the command line asks for."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from restoration.arguments import leaves
from restoration.checkpoint_file import read_checkpoint
from restoration.data.datamodule import RestorationDataModule
from restoration.errors import UserError
from restoration.restorer import GROUPS, Restorer
from restoration.run.hardware import usable_device
from restoration.run.keys import changed, check_values
from restoration.run.overrides import Overrides
from restoration.trust import BUILD
from restoration.weights_file import PREFIX

log = logging.getLogger(__name__)

# Groups of the training config that an evaluation reads beside the restorer's own.
_NEEDED = ("data", "corruption", "evaluation", "trainer", "run")


# Arguments that say where an allowed class writes.
_WRITES = ("dirpath", "save_dir", "default_root_dir")


def initialize(restorer: Restorer, path: str | Path, trust: Any = None) -> None:
    """Sets a restorer's weights to those of a checkpoint. Weights that only the restorer has stay as they are.

    Args:
        restorer: built from its config.
        path: a checkpoint, run folder or weights file.
        trust: names of other packages that the checkpoint may name.

    Raises:
        UserError: as `read_checkpoint`; or the weights do not fit.
    """
    weights = read_checkpoint(path, trust)["state_dict"]
    given = {name.removeprefix(PREFIX): value for name, value in weights.items() if name.startswith(PREFIX)}
    own = restorer.state_dict()
    for name, value in given.items():
        if name not in own or own[name].shape != value.shape:
            there = "has none of this name" if name not in own else f"is {tuple(own[name].shape)}"
            raise UserError(
                f"init={path}: its weight {name} is {tuple(value.shape)}, that of this run {there}; choose the "
                "checkpoint's backbone, estimator and source"
            )
    restorer.load_state_dict(given, strict=False)
    new = len(own) - len(given)
    log.info("starting from the weights of %s%s", path, f"; {new} tensors are new" if new else "")


def check_places(config: dict[str, Any], folder: Path | None = None) -> None:
    """Refuses a checkpoint's config that would write to a place which nobody here has named.

    Places are the run folder, the working directory, folders that already hold decoded images, and what the command
    line gives.

    Args:
        config: of a checkpoint, in plain containers.
        folder: of the run that it continues; None if only its data are used.

    Raises:
        UserError: names the key.
    """
    overrides = Overrides()
    for key, value in leaves(config):
        name, data = key.rpartition(".")[2], key in ("data.root", "data.extra")
        if not (data or (folder and name in _WRITES)) or not isinstance(value, str) or overrides.given(key):
            continue
        place = Path(value).resolve()
        inside = place.is_relative_to((Path.cwd() if data or folder is None else folder).resolve())
        if not inside and not (data and any(place.glob(".store-*"))):
            raise UserError(f"the checkpoint would write to {key}={value}; if that is right, give {key}={value} too")


def open_checkpoint(config: DictConfig) -> tuple[Restorer, dict[str, Any], RestorationDataModule]:
    """The restorer of `config.checkpoint` on `config.device`, its training config as the groups data, corruption and
    sampler change it, and that config's data.

    Raises:
        UserError: the checkpoint, device or data are not available, or a key is missing or unknown.
    """
    restorer = Restorer.load(config.checkpoint, usable_device(str(config.device)), config.trust)
    trained = restorer.config
    if missing := [name for name in _NEEDED if not isinstance(trained.get(name), dict)]:
        raise UserError(
            f"{config.checkpoint}: its config lacks {', '.join(missing)}; give a checkpoint that training wrote"
        )
    _change(trained, config, ("data", "corruption", "sampler"))
    restorer.sampler = instantiate(trained["sampler"])
    return restorer, trained, _open_data(trained, instantiate(trained["corruption"]))


def open_data(trained: dict[str, Any], config: DictConfig) -> RestorationDataModule:
    """The clean images that a classifier's training config names, with the changes of the group data.

    Args:
        trained: the config, in plain containers; its data become the changed ones.
        config: of the command.

    Raises:
        UserError: as `open_checkpoint`.
    """
    _change(trained, config, ("data",))
    return _open_data(trained, None)


def _change(trained: dict[str, Any], config: DictConfig, groups: tuple[str, ...]) -> None:
    """Changes groups of a training config as the command asks."""
    # Another data set is loaded at the size of the training, unless another is given; its file's `${seed}` is train's.
    for key in {"image_size", "seed"} & set(config.data if "_target_" in config.data else ()):
        if not Overrides().given(f"data.{key}"):
            config.data[key] = trained["data"][key]
    for key in OmegaConf.missing_keys(config.data):
        raise UserError(f"{key} is missing; give {key}=…")
    for group in set(groups) & {"data", "corruption"}:
        if "_target_" in config[group]:
            trained["run"][group] = HydraConfig.get().runtime.choices[group]
    for group in groups:
        trained[group] = changed(trained[group], config[group], group)
    # Further images are for training, and their folder may be gone.
    trained["data"] = {key: value for key, value in trained["data"].items() if key not in ("extra", "extra_share")}
    check_values(trained)
    check_places(trained)


def _open_data(trained: dict[str, Any], corruption: Any) -> RestorationDataModule:
    data: RestorationDataModule = instantiate(trained["data"], corruption=corruption)
    data.prepare_data()
    return data


def self_contained(config: dict[str, Any]) -> dict[str, Any]:
    """The training config as a checkpoint carries it: a source's restorer by its config, not by its file."""
    source = config["source"]
    if "path" not in (regression := source.get("restorer", {})):
        return config
    inner = read_checkpoint(regression["path"], regression.get("trust"))["config"]
    # Not recursive: `build` instantiates the groups itself.
    groups = {name: inner[name] for name in GROUPS}
    rebuilt = {"_target_": BUILD, "_recursive_": False, "config": groups, "weights": "checkpoint"}
    return {**config, "source": {**source, "restorer": rebuilt}}
