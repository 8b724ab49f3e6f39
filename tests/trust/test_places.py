"""A checkpoint writes only into its run folder, the working directory, and what the command line names."""

from pathlib import Path
from typing import Any

import pytest
from helpers import composed

from restoration.callbacks import BestCheckpoint
from restoration.errors import UserError
from restoration.run.checkpoint import check_places


def check(config: dict[str, Any], folder: Path | None, *overrides: str) -> str | None:
    with composed("train", *overrides):
        try:
            check_places(config, folder)
        except UserError as error:
            return str(error)
    return None


@pytest.mark.parametrize(
    "key", ["callbacks.best.dirpath", "callbacks.last.dirpath", "logger.csv.save_dir", "trainer.default_root_dir"]
)
def test_a_resumed_run_writes_into_its_folder(key: str, tmp_path: Path):
    group, *names, last = key.split(".")
    folder = tmp_path / "run"

    def config(value: str) -> dict[str, Any]:
        node: dict[str, Any] = {last: value}
        for name in (*reversed(names), group):
            node = {name: node}
        return node

    assert check(config(str(folder / "checkpoints")), folder) is None
    for place in (tmp_path, folder / ".." / "other", Path.home(), Path("/")):
        said = check(config(str(place)), folder)
        assert said is not None and said.startswith(f"the checkpoint would write to {key}={place}; ")
    assert check(config(str(tmp_path)), folder, f"{key}={tmp_path}") is None
    assert check(config(str(tmp_path)), None) is None, "only its data are used"


def test_images_are_decoded_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    images = tmp_path / "images"
    config = {"data": {"root": str(images)}}
    for folder in (None, tmp_path / "run"):
        said = check(config, folder)
        assert said is not None and said.endswith(f"data.root={images}; if that is right, give data.root={images} too")
        assert check(config, folder, f"data.root={images}") is None
        assert check({"data": {"root": "data"}}, folder) is None
        assert check({"data": {"root": "../images"}}, folder) is not None
    (images / ".store-64").mkdir(parents=True)
    assert check(config, None) is None, "they have been decoded there before"


@pytest.mark.parametrize("name", ["../best", "/tmp/best", "a/best"])
def test_the_name_of_a_checkpoint_is_no_path(name: str, tmp_path: Path):
    with pytest.raises(UserError, match="must not name another folder"):
        BestCheckpoint(tmp_path, name, "val/psnr", "max")
