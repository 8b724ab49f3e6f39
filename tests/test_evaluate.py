"""The evaluate command: the run's own results again, other degradations and solvers, mistakes as one line."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import FEW_PASSES, TINY, complaint, encoder_file, run_command
from PIL import Image

from restoration import train
from restoration.evaluate import main
from restoration.export import main as export
from restoration.restore import main as restore

RUN = Path("outputs/blur_erase/run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["experiment=blur_erase", *TINY, *FEW_PASSES, f"backbone.encoder.weights={encoder_file(folder)}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_command(train.main, *arguments, "trainer.max_steps=2") == 0
    return folder


@pytest.fixture
def desk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*arguments: str, checkpoint: Path | str = RUN / "checkpoints" / "best.ckpt") -> int:
    small = ["evaluation.images=4", "evaluation.nfe=[1,2]", "evaluation.spread_samples=0", "device=cpu"]
    return run_command(main, f"checkpoint={checkpoint}", *small, *arguments)


def results(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_it_repeats_the_evaluation_of_the_run(desk: Path):
    assert evaluate() == 0
    folder = desk / RUN / "evaluation"
    ours, theirs = results(folder), results(desk / RUN)
    for part in ("identity", "classical", "by_severity"):
        assert ours[part] == theirs[part]
    for mine, other in zip(ours["by_nfe"], theirs["by_nfe"], strict=True):
        assert mine["solver"] == other["solver"] and mine.keys() == other.keys()
        for name in ("psnr", "ssim", "psnr_hole", "psnr_known", "frechet_test_resnet"):
            assert mine[name] == pytest.approx(other[name], rel=1e-5)
    files = {path.name for path in folder.rglob("*.*") if path.parent.name != "samples"}
    assert files == {"metrics.json", "per_image.csv", "grid.png", "curve.png"}
    with (folder / "per_image.csv").open(newline="") as file:
        images = [float(row["psnr"]) for row in csv.DictReader(file) if row["nfe"] == "1"]
    assert sum(images) / len(images) == pytest.approx(ours["restored"]["psnr"])


def test_a_weights_file_is_evaluated_as_its_checkpoint_is(desk: Path):
    assert run_command(export, f"checkpoint={RUN}", "output=shared.safetensors") == 0
    assert evaluate("output=shared", checkpoint="shared.safetensors") == 0
    ours, theirs = results(desk / "shared"), results(desk / RUN)
    assert ours["identity"]["psnr"] == theirs["identity"]["psnr"]
    assert ours["restored"]["psnr"] == pytest.approx(theirs["restored"]["psnr"], abs=0.2)  # rounded to bfloat16


def test_another_strength_and_another_solver(desk: Path):
    arguments = ["corruption.strength=0.0", "sampler=heun", "output=mild", "data.test_images=3"]
    assert evaluate(*arguments) == 0
    mild = results(desk / "mild")
    # Strength 0 leaves the images as they are: PSNR at its cap.
    assert mild["identity"]["psnr"] == 60.0 and mild["run"]["strength"] == 0.0 and mild["n"] == 3
    assert {point["solver"] for point in mild["by_nfe"]} == {"Heun"}
    assert {point["solver"] for point in results(desk / RUN)["by_nfe"]} == {"Exponential"}


def test_a_grid_of_its_own_is_fitted_on_request(desk: Path, capsys: pytest.CaptureFixture[str]):
    few = ["sampler.nfe=3", "evaluation.nfe=[3]"]
    assert evaluate("tune=true", *few, "output=fitted") == 0
    fitted = results(desk / "fitted")
    warp = fitted["run"]["sampler"]["warp"]
    assert warp != results(desk / RUN)["run"]["sampler"]["warp"]
    assert f"with sampler.warp={warp}" in capsys.readouterr().out
    assert evaluate(f"sampler.warp={warp}", *few, "output=given") == 0
    assert results(desk / "given")["restored"]["psnr"] == fitted["restored"]["psnr"]


def test_a_single_step_has_no_grid_to_fit(desk: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate("tune=true", "sampler.nfe=1") == 2
    assert complaint(capsys) == "nfe=1 is a single step and has no grid to fit; ask for more evaluations"
    assert not (desk / RUN / "evaluation" / "metrics.json").exists()


def test_a_corruption_that_was_not_trained_on(desk: Path):
    assert evaluate("corruption.operator.skip.erase=1", "output=blurred", "evaluation.images=3") == 0
    assert results(desk / "blurred")["identity"]["psnr_hole"] is None
    assert evaluate("corruption=salt_pepper", "corruption.strength=0.5", "output=unseen", "evaluation.images=3") == 0
    unseen = results(desk / "unseen")
    assert (unseen["run"]["corruption"], unseen["run"]["strength"]) == ("salt_pepper", 0.5)
    assert unseen["identity"]["psnr"] != results(desk / RUN)["identity"]["psnr"] and unseen["by_kind"] == []
    assert {k["kind"] for k in results(desk / RUN)["by_kind"]} <= {"motion", "gaussian", "erase", "several", "intact"}


@pytest.mark.parametrize("asked, size", [([], 16), (["data.image_size=32"], 32)], ids=["as trained", "asked"])
def test_other_images_come_at_the_size_trained_at(asked: list[str], size: int, desk: Path):
    (desk / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 0, 0)).save(desk / "photos" / f"{number}.png")
    assert evaluate("data=image_folder", "data.root=photos", "output=other", "evaluation.nfe=1", *asked) == 0
    other = results(desk / "other")
    assert other["n"] == 1 and other["run"]["image_size"] == size and [point["nfe"] for point in other["by_nfe"]] == [1]


def test_an_evaluation_of_a_stray_checkpoint_lies_beside_it(desk: Path):
    (desk / "models").mkdir()
    shutil.copy(RUN / "checkpoints" / "best.ckpt", desk / "models" / "a.ckpt")
    assert evaluate(checkpoint="models/a.ckpt") == 0
    assert results(desk / "models" / "evaluation")["n"] == 4 and not (desk / "evaluation").exists()


def test_another_precision_changes_the_results_a_little(desk: Path):
    assert evaluate("precision=bf16-mixed", "output=rounded") == 0
    rounded, exact = results(desk / "rounded"), results(desk / RUN)
    assert rounded["identity"] == exact["identity"]
    assert rounded["restored"]["psnr"] != exact["restored"]["psnr"]
    assert rounded["restored"]["psnr"] == pytest.approx(exact["restored"]["psnr"], abs=0.1)


def test_the_selection_images_are_others(desk: Path):
    assert evaluate("split=selection", "output=selection") == 0
    assert results(desk / "selection")["identity"]["psnr"] != results(desk / RUN)["identity"]["psnr"]


def test_an_evaluation_is_not_overwritten_unasked(desk: Path, capsys: pytest.CaptureFixture[str]):
    (desk / "there").mkdir()
    (desk / "there" / "metrics.json").write_text("{}")
    assert evaluate("output=there") == 2
    assert complaint(capsys) == "there holds an evaluation; give another output=FOLDER, or overwrite=true"
    assert evaluate("output=there", "overwrite=true") == 0
    assert results(desk / "there")["n"] == 4


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["corruption.strenght=0.5"], "unknown key 'corruption.strenght'; did you mean 'strength'?"),
        (["corruption.operator.stepps.erase.fill=white"], "unknown key 'corruption.operator.stepps'"),
        (["data.imagesize=8"], "unknown key 'data.imagesize'; did you mean 'image_size'?"),
        (["evaluation.nfes=[1]"], "unknown key 'evaluation.nfes'; did you mean 'nfe'?"),
        (["+splitt=test"], "unknown key 'splitt'; did you mean 'split'?"),
        (["split=training"], "split=training must be test or selection"),
        (["corruption.strength=3"], "strength"),
        (["corruption.strength=abc"], "corruption.strength=abc must be a number from 0 to 1"),
        (["evaluation.nfe=[0]"], "evaluation"),
        (["data=image_folder"], "data.root is missing; give data.root=…"),
        (["device=toaster"], "device=toaster cannot be used here"),
        (["precision=fp16"], "precision=fp16: choose one of auto, 32-true, 16-mixed, bf16-mixed"),
        (["data.image_size=16.5"], "data.image_size=16.5 must be a whole number"),
        ([f"output={RUN}/config.yaml"], "config.yaml cannot be a folder (File exists); give another"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, desk: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate(*arguments) == 2
    assert said in complaint(capsys)
    assert not (desk / RUN / "evaluation").exists()


def broken(kind: str, folder: Path) -> Path:
    """A file that is not a usable checkpoint."""
    path = folder / f"{kind}.ckpt"
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "cut":
        whole = (folder / RUN / "checkpoints" / "best.ckpt").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "stranger":
        torch.save({"state_dict": {}, "epoch": 1}, path)
    elif kind == "earlier_version":
        torch.save({"config": {"backbone": {}, "source": {}}, "state_dict": {}}, path)
    elif kind == "other_network":
        checkpoint = torch.load(folder / RUN / "checkpoints" / "best.ckpt", weights_only=True)
        checkpoint["config"]["backbone"]["widths"] = [8, 8, 8, 8]
        torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize(
    "kind, said",
    [
        ("missing", "no checkpoint at "),
        ("text", "is not a checkpoint of this project, or is damaged ("),
        ("cut", "is not a checkpoint of this project, or is damaged ("),
        ("stranger", "is not a checkpoint of this project, or is damaged (KeyError)"),
        ("earlier_version", "was written by restoration 0.1; use it with version 0.1.0, or train again"),
        ("other_network", "its weights do not fit the network of its config"),
    ],
)
def test_an_unusable_checkpoint_is_one_line(kind: str, said: str, desk: Path, capsys: pytest.CaptureFixture[str]):
    path = broken(kind, desk)
    assert evaluate(checkpoint=path) == 2
    assert said in complaint(capsys)
    (desk / "photos").mkdir()
    shutil.copy(desk / RUN / "images" / "grid.png", desk / "photos")
    assert run_command(restore, f"checkpoint={path}", "input=photos", "output=restored") == 2
    assert said in complaint(capsys) and not (desk / "restored").exists()


def test_no_checkpoint_given(desk: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(main) == 2
    assert "checkpoint" in complaint(capsys)


def test_weights_of_the_distance_that_are_gone_leave_it_out(trained: Path, desk: Path):
    (trained / "test_resnet.safetensors").rename(desk / "elsewhere.safetensors")
    try:
        assert evaluate() == 0
        names = set(results(desk / RUN / "evaluation")["restored"])
        assert "psnr" in names and not any(name.startswith("frechet") for name in names)
        assert evaluate("frechet.weights=elsewhere.safetensors", "overwrite=true") == 0
        assert "frechet_elsewhere" in results(desk / RUN / "evaluation")["restored"]
    finally:
        shutil.copy(desk / "elsewhere.safetensors", trained / "test_resnet.safetensors")


def test_a_distance_over_another_encoder_than_the_run_s(trained: Path, desk: Path):
    assert evaluate(f"frechet.weights={trained / 'test_resnet.safetensors'}", "frechet.stem=imagenet") == 0
    names = results(desk / RUN / "evaluation")["restored"]
    assert "frechet_test_resnet_imagenet" in names and "frechet_test_resnet" not in names


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("frechet.weights=gone.safetensors", "encoder weights not found: gone.safetensors"),
        ("frechet.weights=random", "random weights give no meaningful distance"),
        ("frechet.model=test_convnext", "do not fit test_convnext"),
        ("frechet.weight=x", "did you mean 'weights'"),
    ],
)
def test_a_distance_asked_for_is_not_left_out(desk: Path, capsys: pytest.CaptureFixture[str], asked: str, said: str):
    assert evaluate(asked) == 2
    assert said in complaint(capsys)
    assert not (desk / RUN / "evaluation").exists()
