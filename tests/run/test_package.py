"""The package as a whole: the length of its files, and that everything its config names exists."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import CONF
from hydra.utils import get_object
from omegaconf import OmegaConf

import restoration

LIMIT = 250


def test_no_file_is_longer_than_the_limit():
    folders = (Path(restoration.__file__).parent, Path(__file__).parents[1])
    files = [file for folder in folders for file in folder.rglob("*.py")]
    lengths = {str(path): len(path.read_text().splitlines()) for path in files}
    assert lengths and not {path: length for path, length in lengths.items() if length > LIMIT}


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a plain config."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_target_exists(path: Path):
    """Before any choice is composed, so a file that no default uses is checked too."""
    for target in targets(OmegaConf.to_container(OmegaConf.load(path))):
        assert callable(get_object(target)), target
