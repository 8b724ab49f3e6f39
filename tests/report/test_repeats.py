"""Repeats against hand computations."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console
from rich.table import Table

from restoration.compare import main
from restoration.report.folder import Report, find
from restoration.report.repeats import _add_row, setups, sign_flip, spread, tables


def run(folder: Path, seed: int, top1: float, loss: str = "cross_entropy", fold: int | None = None) -> Report:
    """A run of a classifier, as `pretrain` leaves it."""
    folder.mkdir(parents=True)
    data = {"seed": seed, "image_size": 32} | ({} if fold is None else {"folds": 5, "fold": fold})
    config = {"name": folder.name, "folder": str(folder), "seed": seed, "data": data, "loss": {"name": loss}}
    config |= {"logger": {"wandb": {"name": f"{loss}/seed={seed}"}}, "callbacks": {"best": {"dirpath": f"{folder}/c"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {"n": 10, "top1": top1, "run": {"experiment": "digits", "name": folder.name, "seed": seed}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Report(folder, metrics)


def test_the_interval_is_students():
    """Of 1, 2, 3, 4: the deviation is √(5/3), and t at 97.5 % with three degrees of freedom is 3.18245."""
    deviation = math.sqrt(5 / 3)
    margin = 3.182446 * deviation / 2
    assert spread([1, 2, 3, 4]) == pytest.approx((2.5, deviation, 2.5 - margin, 2.5 + margin), rel=1e-6)
    assert spread([2.0])[0] == 2.0 and all(math.isnan(value) for value in spread([2.0])[1:])


@pytest.mark.parametrize(
    "differences", [[3.0, -1.0, 2.0, 5.0], [1.0, 2.0], [0.3, 0.1, 0.2, -0.05, 0.4, 0.15], [1.0, -1.0]]
)
def test_p_is_the_share_of_all_signs(differences: list[float]):
    means = [np.dot(signs, differences) for signs in itertools.product((1, -1), repeat=len(differences))]
    expected = np.mean([abs(mean) >= abs(sum(differences)) - 1e-12 for mean in means])
    assert sign_flip(differences) == pytest.approx(expected)


def test_six_differences_of_one_sign_reach_five_percent_and_five_do_not():
    values = [0.1, 0.2, 0.15, 0.3, 0.05, 0.12]
    assert sign_flip(values) == pytest.approx(2 / 64) and sign_flip(values[:5]) == pytest.approx(2 / 32)
    assert sign_flip([0.0, 0.0]) == 1.0


def test_configs_are_told_apart_by_all_but_the_seed(tmp_path: Path):
    first, second = [0.50, 0.52, 0.54], [0.53, 0.56, 0.54]
    for seed, values in enumerate(zip(first, second, strict=True)):
        for name, value in zip(("cross_entropy", "focal"), values, strict=True):
            run(tmp_path / name / f"seed={seed}", seed, value, name)
    found = setups(find([tmp_path]))
    assert [setup.name for setup in found] == ["digits loss.name=cross_entropy", "digits loss.name=focal"]
    assert found[0].values == {("top1", 0): {(seed, -1): value for seed, value in enumerate(first)}}


def test_compare_agrees_with_a_hand_computation(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Differences 0.03, 0.04, 0.00, 0.01, 0.02, 0.02: mean 0.02, deviation √(0.001 / 5), t with 5 degrees 2.570582."""
    first = [0.50, 0.52, 0.54, 0.50, 0.51, 0.49]
    added = [0.03, 0.04, 0.00, 0.01, 0.02, 0.02]
    for seed, (value, more) in enumerate(zip(first, added, strict=True)):
        run(tmp_path / "a" / f"seed={seed}", seed, value)
        run(tmp_path / "b" / f"seed={seed}", seed, value + more, "focal")
    main([str(tmp_path)])
    said = " ".join(capsys.readouterr().out.split())
    margin = 2.570582 * math.sqrt(0.001 / 5) / math.sqrt(6)
    assert f"│ 6 │ +0.02 │ [+{0.02 - margin:.3g}, +{0.02 + margin:.3g}] │" in said
    deviation = float(np.std(first, ddof=1))
    margin = 2.570582 * deviation / math.sqrt(6)
    assert f"│ 0.51 │ {deviation:.2g} │ [{0.51 - margin:.4g}, {0.51 + margin:.4g}]" in said
    # Of 64 choices of signs, the zero's is free: 2 · 2 have the whole sum.
    assert sign_flip(added) == pytest.approx(4 / 64) and "│ 0.062 │" in said
    assert "cannot reach" not in said


def text(reports: list[Report], reference: Report | None = None) -> str:
    made, notes = tables(reports, reference)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in made:
        console.print(table)
    return console.export_text() + "\n".join(notes)


def test_few_seeds_and_folds_are_told(tmp_path: Path):
    runs = [run(tmp_path / f"{fold}", 0, 0.5 + fold / 100, fold=fold) for fold in range(5)]
    said = text(runs)
    assert "5 seeds cannot reach 5 %: p is 0.0625 at least; 6 can" in said
    assert "folds share training images" in said
    again = run(tmp_path / "again", 0, 0.9, fold=0)
    assert "1 runs repeat a seed of the same config; they are not counted" in text([*runs, again])
    assert text(runs[:1]) == ""


def test_the_reference_is_the_one_that_is_asked_for(tmp_path: Path):
    first = [run(tmp_path / f"a{seed}", seed, 0.5) for seed in range(2)]
    second = [run(tmp_path / f"b{seed}", seed, 0.6 + seed / 10, "focal") for seed in range(2)]
    assert "differences to digits loss.name=cross_entropy" in text([*first, *second])
    assert "differences to digits loss.name=focal" in text([*first, *second], second[1])


def test_a_config_is_named_in_its_first_row_alone():
    table = Table("config", "metric")
    for name, metric in (("one", "psnr"), ("one", "ssim"), ("two", "psnr"), ("one", "psnr")):
        _add_row(table, name, metric)
    assert list(table.columns[0].cells) == ["one", "", "two", "one"]
    assert [row.end_section for row in table.rows] == [False, True, True, False]
