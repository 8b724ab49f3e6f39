"""What a user sees in W&B: offline runs are read back, and every panel of the dashboard has a key that they logged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
import yaml
from helpers import TINY_DATA, TINY_NETWORK, TINY_RUN, complaint, composed, encoder_file, run_command, without_account
from PIL import Image
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb_file import OfflineRun

from restoration import dashboard as module
from restoration.dashboard import dashboard, main, specification
from restoration.run.keys import check_keys, check_values, reference_config
from restoration.train import main as train
from restoration.training.loggers import wandb_logger

SWEEP = Path(__file__).parents[1] / "sweep.yaml"
STRENGTHS = (0.5, 1.0)
KINDS = ("degraded", "NFE 1", "NFE 8", "clean")
OTHERWISE = {
    **{"experiment": "blur_erase", "name": "sweep", "logger.wandb.mode": "offline", "trainer.max_steps": "8"},
    **{"trainer.val_check_interval": "4", "data.test_images": "8", "evaluation.images": "8"},
    **{"callbacks.throughput.window_size": "2", "callbacks.data_wait.every_n_steps": "2"},
}
LEFT_OUT = {"logger.wandb", "backbone.encoder.weights", *OTHERWISE}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Two offline runs of a sweep over strength, in two stages."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        without_account(patch, folder)
        patch.chdir(folder)
        wandb.teardown()
        keys = [key for key in TINY_DATA + TINY_NETWORK + TINY_RUN if key.split("=")[0] not in LEFT_OUT]
        keys += [f"{name}={value}" for name, value in OTHERWISE.items()]
        keys += [
            f"backbone.encoder.weights={encoder_file(folder)}",
            f"corruption.strength={STRENGTHS[0]},{STRENGTHS[1]}",
        ]
        assert run_command(train, *keys, flags=["-m"]) == 0
        wandb.teardown()
    yield [folder / "outputs" / "blur_erase" / "sweep" / f"corruption.strength={strength}" for strength in STRENGTHS]


@pytest.fixture(scope="module")
def runs(folders: list[Path]) -> list[OfflineRun]:
    return [OfflineRun.read(folder) for folder in folders]


def panels(text: str) -> list[dict[str, Any]]:
    sections = json.loads(text)["section"]["panelBankConfig"]["sections"]
    return [panel["config"] for section in sections for panel in section["panels"]]


def shown(panel: dict[str, Any]) -> set[str]:
    """The keys that a panel asks for, without the marks of their kind."""
    named = [*panel.get("metrics", []), *panel.get("mediaKeys", []), panel.get("xAxis"), panel.get("yAxis")]
    return {name.removeprefix("summary:") for name in named if name}


def test_every_panel_has_keys_that_runs_log(runs: list[OfflineRun]):
    pytest.importorskip("wandb_workspaces", reason="the dashboard needs the extra [dashboard]")
    found = [shown(panel) for panel in panels(specification(dashboard("me", "restoration")))]
    assert len(found) > 20 and all(found)
    asked = set().union(*found)
    configured = {name for name in asked if name.startswith("config:")}
    assert configured == {"config:corruption.value.strength"}
    assert [run.config["corruption"]["strength"] for run in runs] == list(STRENGTHS)
    for run in runs:
        assert asked - configured - run.keys == set()
    # The reader would not see a key that is missing.
    others = [shown(panel) for panel in panels(specification(dashboard("me", "restoration", nfe=[3])))]
    assert "test/psnr_nfe3" in set().union(*others) - runs[0].keys


def test_the_figures_of_a_run_are_those_of_its_report(folders: list[Path], runs: list[OfflineRun]):
    for folder, run in zip(folders, runs, strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (run.name, run.group) == (metrics["run"]["name"], "sweep")
        (row,) = run.rows("test/psnr_nfe1")
        assert [row[f"test/psnr_nfe{k}"] for k in (1, 8)] == [point["psnr"] for point in metrics["by_nfe"]]
        curve = [(row["severity/u"], row["severity/psnr_nfe8"]) for row in run.rows("severity/u")]
        groups = metrics["by_severity"]
        assert curve == [((group["low"] + group["high"]) / 2, group["by_nfe"][1]["psnr"]) for group in groups]
        stages = [row["train/stage"] for row in run.rows("train/stage")]
        assert stages == sorted(stages) and set(stages) == {1, 2}
        assert [row["trainer/global_step"] for row in run.rows("val/psnr")] == [3, 7]


def test_pictures_stand_side_by_side_across_runs(runs: list[OfflineRun]):
    """The same keys at the same steps, the same captions, and the same clean image under a key."""
    for stage, count in (("val", 8), ("test", 8)):
        keys = [f"{stage}/sample_{number}" for number in range(1, count + 1)]
        clean = {}
        for run in runs:
            rows = run.rows(keys[0])
            assert [row["trainer/global_step"] for row in rows] == ([4, 8] if stage == "val" else [8])
            assert all(row.keys() >= set(keys) for row in rows), "one row of the history has all of them"
            for key in keys:
                captions = [row[key]["captions"] for row in rows]
                assert all([text.split(",")[0] for text in one] == list(KINDS) for one in captions)
                files = [run.files / name for name in rows[-1][key]["filenames"]]
                pixels = [np.asarray(Image.open(file)) for file in files]
                assert pixels[0].shape == (160, 160, 3)
                first = clean.setdefault(key, (captions, pixels[-1]))
                assert first[0] == captions and np.array_equal(first[1], pixels[-1])
                assert len({image.tobytes() for image in pixels}) == len(KINDS) or np.array_equal(pixels[0], pixels[-1])
        assert len({one[1].tobytes() for one in clean.values()}) == count, "every key has another image"


def test_an_agent_can_run_the_sweep():
    """The command that W&B's agent makes of the file has keys that the training accepts."""
    sweep = yaml.safe_load(SWEEP.read_text())
    assert {"method", "metric", "parameters", "command"} <= sweep.keys() and "corruption.strength" in sweep[
        "parameters"
    ]
    for strength in sweep["parameters"]["corruption.strength"]["values"]:
        given = {"corruption.strength": strength, "seed": sweep["parameters"]["seed"]["value"]}
        assert given.keys() == sweep["parameters"].keys()
        arguments = create_sweep_command_args({"args": {name: {"value": value} for name, value in given.items()}})
        # What the agent does with the macros.
        words = [[word] if word != "${args_no_hyphens}" else arguments["args_no_hyphens"] for word in sweep["command"]]
        command = create_sweep_command([word for part in words for word in part])
        assert command[1:4] == ["python", "-m", "restoration.train"]
        with composed("train", *command[4:]) as config:
            check_keys(config, reference_config())
            check_values(config)
            assert (config.corruption.strength, config.seed) == (strength, 0)


def test_a_run_under_an_agent_has_the_id_that_the_agent_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else the sweep would not know it for its own; outside a sweep the id is that of the folder."""
    without_account(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents1")
    wandb.teardown()
    try:
        assert wandb_logger("p", tmp_path, mode="offline").experiment.id == "agents1"
    finally:
        wandb.finish()
        wandb.teardown()


def test_the_sweep_is_judged_by_a_key_that_runs_log(runs: list[OfflineRun]):
    assert yaml.safe_load(SWEEP.read_text())["metric"]["name"] in runs[0].keys


def test_the_file_needs_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("wandb_workspaces", reason="the dashboard needs the extra [dashboard]")
    without_account(monkeypatch, tmp_path)
    main(["--json", str(tmp_path / "new" / "dashboard.json"), "--nfe", "4", "--samples", "2"])
    found = set().union(*map(shown, panels((tmp_path / "new" / "dashboard.json").read_text())))
    assert {"test/psnr_nfe4", "test/sample_2"} <= found and not {"test/psnr_nfe1", "test/sample_3"} & found
    capsys.readouterr()
    for arguments, message in (
        ([], "no key of W&B"),
        (["--nfe", "0"], "--nfe takes"),
        (["--samples", "9"], "--samples"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in complaint(capsys)


def test_without_the_library_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name}", name=name.partition(".")[0])

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(SystemExit, match="2"):
        main(["--json", "dashboard.json"])
    assert "pip install 'restoration[dashboard]'" in complaint(capsys)
