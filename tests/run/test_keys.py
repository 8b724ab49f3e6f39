"""Strict keys, one-line errors, automatic precision."""

from pathlib import Path

import pytest
import torch
from helpers import CONF, composed
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf
from restoration.run.config import (
    allow_any_key,
    autocast_dtype,
    check_keys,
    command,
    output_folder,
    reference_config,
    resolve_precision,
)

from restoration import config as config_module
from restoration.data.decode import SUFFIXES
from restoration.errors import UserError


def refused(*overrides: str, name: str = "train") -> str | None:
    """What the key check says to a command line; None where it accepts it."""
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
        "callbacks.image_quality.seed=3",
        "callbacks.ema=null",
        "budget=tiny",
        "experiment=demo",
        "objective.weights.flow=2",
    ],
)
def test_a_key_that_something_takes_is_accepted(override: str):
    assert refused("data=dead_leaves", override) is None


@pytest.mark.parametrize("override", ["data.root=x", "corruption.strength=0.5", "sampler=euler", "evaluation.images=4"])
def test_evaluate_takes_what_it_passes_on(override: str):
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


def test_a_mapping_of_objects_is_judged_inside():
    reference = OmegaConf.create({"terms": {}})
    known = {"_target_": "restoration.sampler.Euler", "nfe": 3}
    # An empty mapping takes named objects, and each of them is judged by its own target.
    check_keys(OmegaConf.create({"terms": {"mine": known}}), reference)
    with pytest.raises(UserError, match=r"unknown key 'terms.mine.nfee'; did you mean 'nfe'"):
        check_keys(OmegaConf.create({"terms": {"mine": {**known, "nfee": 1}}}), reference)
    # So does one that holds nothing but objects; a misspelt name of one of them is no object.
    reference = OmegaConf.create({"terms": {"flow": known}})
    check_keys(OmegaConf.create({"terms": {"flow": known, "mine": known}}), reference)
    with pytest.raises(UserError, match=r"unknown key 'terms.folw'; did you mean 'flow'"):
        check_keys(OmegaConf.create({"terms": {"flow": known, "folw": {"nfe": 4}}}), reference)


@pytest.mark.parametrize(
    "amx, avx, expected", [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")]
)
def test_precision_of_a_cpu_follows_its_instructions(monkeypatch, amx: bool, avx: bool, expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert resolve_precision("auto", "auto") == expected


@pytest.mark.parametrize("capability, expected", [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")])
def test_precision_of_a_gpu_follows_its_generation(monkeypatch, capability: tuple[int, int], expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert resolve_precision("auto", "gpu") == expected


def test_mixed_precisions_have_a_type_to_multiply_in():
    types = {"32-true": None, "64-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, 32: None}
    assert {precision: autocast_dtype(precision) for precision in types} == types


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_a_given_precision_is_taken(precision: str):
    assert resolve_precision(precision, "auto") == precision


@pytest.mark.parametrize("precision", ["fp16", 16, 32, "bf16", "64-true", "bf16-true"])
def test_another_precision_is_refused(precision: str | int):
    with pytest.raises(UserError, match=f"precision={precision}: choose one of auto, 32-true, 16-mixed, bf16-mixed"):
        resolve_precision(precision, "auto")


def test_a_file_is_no_output_folder(tmp_path: Path):
    (tmp_path / "README.md").write_text("")
    with pytest.raises(UserError, match=r"output .*README.md cannot be a folder \(File exists\); give another"):
        output_folder(tmp_path / "README.md")


def test_an_error_for_the_user_is_one_line(capsys: pytest.CaptureFixture[str]):
    def main() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise UserError("do this instead") from error

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: do this instead\n"


def test_a_constructor_s_refusal_names_the_key(capsys: pytest.CaptureFixture[str]):
    node = OmegaConf.create({"callbacks": {"ema": {"_target_": "restoration.callbacks.EMA", "horizon": 2}}})
    with pytest.raises(SystemExit):
        command(lambda: instantiate(node))()
    said = capsys.readouterr().err
    assert said.startswith("error: callbacks.ema: ") and "a share in (0, 1] is needed" in said and said.count("\n") == 1


def test_a_defect_keeps_its_traceback():
    def main() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        command(main)()


def test_sigterm_ends_with_its_status():
    def main() -> None:
        raise SIGTERMException

    with pytest.raises(SystemExit) as ended:
        command(main)()
    assert ended.value.code == 143


def test_a_job_of_a_sweep_raises(monkeypatch: pytest.MonkeyPatch):
    def main() -> None:
        raise UserError("this job only")

    class Sweeping:
        mode = config_module.RunMode.MULTIRUN

    monkeypatch.setattr(config_module.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(config_module.HydraConfig, "get", lambda: Sweeping)
    with pytest.raises(UserError, match="this job only"):
        command(main)()


def test_a_typo_in_an_experiment_file_is_refused(tmp_path: Path):
    """Hydra alone takes any key of a file."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\ndata:\n  batch_sise: 3\n")
    said = refused(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine")
    assert said == "unknown key 'data.batch_sise' (from the file of experiment=mine); did you mean 'batch_size'?"


def test_files_that_do_not_go_together_are_named():
    said = refused("experiment=blur_erase_regression", "contender=noise")
    files = "experiment=blur_erase_regression or contender=noise"
    assert said == f"unknown key 'source.sigma' (from the file of {files}); source takes no keys"


@pytest.mark.parametrize("name", ["restore", "evaluate", "tune"])
def test_help_has_every_key_of_the_command(name: str):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    explained = config.hydra.help.template
    keys = {*config} - {"defaults", "hydra"}
    assert {line.partition("=")[0] for line in explained.splitlines() if "=  " in line} >= keys
    assert name != "restore" or ", ".join(sorted(SUFFIXES)).replace(".", "") in explained
