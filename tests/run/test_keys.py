"""Strict keys: what is refused by name, and what is accepted."""

from pathlib import Path

import pytest
from helpers import CONF, composed
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from restoration.errors import UserError
from restoration.run.keys import allow_any_key, check_keys, reference_config


def refused(*overrides: str, name: str = "train") -> str | None:
    """The error of the key check for a command line; None if it accepts it."""
    with composed(name, *overrides) as config:
        try:
            check_keys(config, reference_config())
        except UserError as error:
            return str(error)
    return None


@pytest.mark.parametrize(
    "override, complaint",
    [
        ("data.btach_size=3", "unknown key 'data.btach_size'; did you mean 'batch_size'?"),
        ("corruption.strenght=0.5", "unknown key 'corruption.strenght'; did you mean 'strength'?"),
        ("+sede=1", "unknown key 'sede'; did you mean 'seed'?"),
        ("trainer.max_step=4", "unknown key 'trainer.max_step'; did you mean 'max_steps'?"),
        ("optimizer.learning_rate=1", "unknown key 'optimizer.learning_rate'; known here: "),
        ("callbacks.ema.horizont=0.2", "unknown key 'callbacks.ema.horizont'; did you mean 'horizon'?"),
        ("callbacks.emma.horizon=0.2", "unknown key 'callbacks.emma'; did you mean 'ema'?"),
        ("backbone.encoder.weight=random", "unknown key 'backbone.encoder.weight'; did you mean 'weights'?"),
        ("objective.terms.flow.time.start=0.1", "unknown key 'objective.terms.flow.time.start'; did you mean"),
        ("+new_group.key=1", "unknown key 'new_group'; known here: "),
        ("source=noise source.sigma=1", "unknown key 'source.sigma'; source takes no keys"),
    ],
)
def test_a_mistyped_key_is_refused_by_name(override: str, complaint: str):
    said = refused("data=dead_leaves", *override.split())
    assert said is not None and said.startswith(complaint)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.limit_val_batches=4",
        "trainer.max_epochs=1",
        "trainer.accumulate_grad_batches=2",
        "optimizer.eps=1e-6",
        "data.train_images=8",
        "data.image_seed=3",
        "callbacks.early_stopping.min_delta=0.1",
        "callbacks.data_wait.bottleneck=0.5",
        "callbacks.ema=null",
        "budget=tiny",
        "experiment=demo",
        "objective.weights.flow=2",
    ],
)
def test_a_key_that_an_object_takes_is_accepted(override: str):
    assert refused("data=dead_leaves", override) is None


@pytest.mark.parametrize("override", ["data.root=x", "corruption.strength=0.5", "sampler=euler", "evaluation.images=4"])
def test_evaluate_takes_keys_of_the_groups_it_changes(override: str):
    assert refused(override, name="evaluate") is None


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_the_defaults_pass(name: str):
    assert refused(name=name) is None


def test_a_mistyped_group_lists_its_options():
    with pytest.raises(MissingConfigException, match=r"(?s)corruption/blur_erasee.*Available options.*blur_erase"):
        refused("corruption=blur_erasee")


def test_only_dotted_keys_of_the_job_may_be_new():
    given = ["data.seed=1", "seed=1", "hydra.run.dir=x", "data=dead_leaves", "+a.b=1", "~a.b", "-m", "group/x.y=1"]
    expected = ["++data.seed=1", "seed=1", "hydra.run.dir=x", "data=dead_leaves", "+a.b=1", "~a.b", "-m", "group/x.y=1"]
    assert allow_any_key(given) == expected
    assert allow_any_key(["corruption.strength=0.5,1.0"]) == ["++corruption.strength=0.5,1.0"]


@pytest.mark.parametrize(
    "path, read",
    [
        ("photos (1)", "photos (1)"),
        ("~/photos", "/home/me/photos"),
        ("2024_05", "2024_05"),
        ("Zürich, l'été", "Zürich, l'été"),
        ("a=[b]{c}", "a=[b]{c}"),
        ("'photos (1)'", "photos (1)"),
        ("null", None),
    ],
)
def test_a_path_may_have_any_name(path: str, read: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    with composed("restore", f"input={path}") as config:
        assert config.input == read
    with composed("train", "data=image_folder", f"data.root={path}", "folder=run") as config:
        assert config.data.root == read


def test_a_sweep_takes_several_paths():
    assert allow_any_key(["-m", "checkpoint=a,b"]) == ["-m", "checkpoint=a,b"]


def test_a_mapping_of_objects_is_checked_inside():
    reference = OmegaConf.create({"terms": {}})
    known = {"_target_": "restoration.sampler.Euler", "nfe": 3}
    # An empty mapping takes named objects; each is checked against its own target.
    check_keys(OmegaConf.create({"terms": {"mine": known}}), reference)
    with pytest.raises(UserError, match=r"unknown key 'terms.mine.nfee'; did you mean 'nfe'"):
        check_keys(OmegaConf.create({"terms": {"mine": {**known, "nfee": 1}}}), reference)
    # So does one that holds only objects. Without a `_target_` an entry is not an object but a misspelt name.
    reference = OmegaConf.create({"terms": {"flow": known}})
    check_keys(OmegaConf.create({"terms": {"flow": known, "mine": known}}), reference)
    with pytest.raises(UserError, match=r"unknown key 'terms.folw'; did you mean 'flow'"):
        check_keys(OmegaConf.create({"terms": {"flow": known, "folw": {"nfe": 4}}}), reference)


def test_a_typo_in_an_experiment_file_is_refused(tmp_path: Path):
    """Hydra alone takes any key of a file."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\ndata:\n  batch_sise: 3\n")
    said = refused(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")
    assert said == "unknown key 'data.batch_sise' (from the file of experiment=mine); did you mean 'batch_size'?"


def test_files_that_exclude_each_other_are_named():
    said = refused("experiment=blur_erase_regression", "ablation=draws_4")
    files = "experiment=blur_erase_regression or ablation=draws_4"
    assert said is not None and said.startswith(f"unknown key 'objective.terms.flow' (from the file of {files})")


@pytest.mark.parametrize("name", ["restore", "evaluate", "tune", "app"])
def test_help_has_every_key_of_the_command(name: str):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    explained = config.hydra.help.template
    keys = {*config} - {"defaults", "hydra"}
    assert {line.partition("=")[0] for line in explained.splitlines() if "=  " in line} >= keys
