"""What the config of a file may name: this project, and what the user trusts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest
import torch
from helpers import composed
from hostile import refusal
from hydra.utils import get_object
from omegaconf import OmegaConf

from restoration.restorer import Restorer
from restoration.run.command import CONF
from restoration.run.resolve import describe_run, resolve
from restoration.trust import ALLOWED, check_targets, named, packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user's own, and a checkpoint that uses it."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "flows.py").write_text(
        "import os\nimport torch\nfrom restoration.flow import Degraded\nfrom timm.layers import Mlp\n"
        "class Own(Degraded):\n    @classmethod\n    def make(cls): return cls()\n"
        "def make(): return Own()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def own(target: str) -> dict:
    return {**hostile.CLEAN, "source": {"_target_": target}}


def test_a_package_of_the_users_own_is_let_in_by_name(package: Path):
    restorer = Restorer.build(own("my_package.flows.Own"))
    state = {f"restorer.{name}": value for name, value in restorer.state_dict().items()}
    path = package / "own.ckpt"
    torch.save({"config": own("my_package.flows.Own"), "state_dict": state}, path)
    message = refusal(lambda: Restorer.load(path))
    assert message == (
        f"{path}: its config names my_package.flows.Own (source), which is not allowed there; nothing was executed; "
        "if you trust that code and this file, add trust=my_package"
    )
    for trust in ("my_package", ("my_package",), ["other", "my_package.flows"], "my_package.flows.Own"):
        assert type(Restorer.load(path, trust=trust).source).__name__ == "Own"
    assert "trust=my_package" in refusal(lambda: Restorer.load(path, trust="my_pack"))


@pytest.mark.parametrize("target", ["my_package.flows.make", "my_package.flows.Own.make"])
def test_functions_of_a_trusted_package_are_let_in(package: Path, target: str):
    check_targets(own(target), "my_package")


@pytest.mark.parametrize(
    "target",
    [
        *("my_package.flows.os.system", "my_package.flows.torch.load", "my_package.flows.Mlp", "my_package.flows.os"),
        *("my_package.flows.Own.load_state_dict", "my_package.flows.Own.__subclasses__", "my_package.flows.Nowhere"),
        *("my_package.nowhere.Own", "my_package.flows", "my_packages.flows.Own", "os.system"),
        *("my_package.flows.Own.__init__.__globals__.get", "restoration.restorer.torch.load"),
    ],
)
def test_a_trusted_package_is_no_way_to_others(package: Path, target: str):
    message = refusal(lambda: check_targets(own(target), "my_package", "file"))
    assert target in message


def test_only_what_a_trusted_package_needs_is_imported(package: Path):
    refusal(lambda: check_targets(own("my_package.flows.Own"), None))
    assert "my_package" not in sys.modules
    check_targets(own("my_package.flows.Own"), "my_package")
    assert "my_package.flows" in sys.modules


def test_a_broken_package_is_one_line(package: Path):
    (package / "my_package" / "broken.py").write_text("raise RuntimeError('first\\nsecond')\n")
    (package / "my_package" / "lacks.py").write_text("import not_installed_here\n")
    broken = refusal(lambda: check_targets(own("my_package.broken.Own"), "my_package"))
    assert broken.endswith("my_package.broken.Own (source) cannot be imported (RuntimeError: first)")
    assert "not_installed_here" in refusal(lambda: check_targets(own("my_package.lacks.Own"), "my_package"))


@pytest.mark.parametrize("trust", [3, {"a": 1}, b"os", "a b", "../x", ["a", 1], "", "a,b"])
def test_trust_is_a_name_or_several(trust: object):
    assert refusal(lambda: packages(trust)).endswith("give the name of a package, such as trust=my_package")


def targets_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Group and target of every `_target_` in conf/; files of the package _global_ name their groups themselves."""
    for path in sorted(folder.rglob("*.yaml")):
        plain = OmegaConf.to_container(OmegaConf.load(path))
        group = path.parent.name
        whole = path.read_text().startswith("# @package _global_")
        parts = plain if whole else {} if path.parent == folder else {group: plain}
        for key, part in parts.items():
            yield from ((key, target) for target in named(part))


def test_the_list_is_that_of_conf():
    """All that conf/ names is allowed where it stands, and nothing of another library is allowed that conf/ lacks."""
    used = set(targets_below(CONF))
    assert len(used) > 40
    for group, target in used - {("source", "restoration.restorer.Restorer.load")}:
        check_targets({group: {"_target_": target}})
    ours = {(group, name) for group, names in ALLOWED.items() for name in names if not name.startswith("restoration.")}
    assert ours == {(group, name) for group, name in used if not name.startswith("restoration.")}
    assert {group for group, _ in used} == set(ALLOWED)


def test_what_is_allowed_exists():
    for names in ALLOWED.values():
        for name in names:
            assert get_object(name.removesuffix(".")) is not None


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiments_checkpoint_may_be_read(experiment: str, tmp_path: Path):
    with composed(
        "train", f"experiment={experiment}", f"folder={tmp_path}", "trainer.accelerator=cpu", "data.root=a"
    ) as config:
        describe_run(config)
        check_targets(resolve(config))
