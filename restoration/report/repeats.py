"""Runs that differ in their seed or fold only: mean, spread, and whether two configs differ by more than chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

from restoration.report.folder import Interval, Report
from restoration.report.settings import settings
from restoration.report.table import OWN, print_wide

LEVEL = 0.05
ENOUGH = 6  # pairs: of fewer, even differences of one sign have 2 / 2^n above 5 %

# Keys that a repeat changes; loggers carry the run's name.
_REPEATED = {"seed", "data.seed", "data.fold", "logger.wandb.name", "logger.wandb.group"}
# An evaluation is on these, which may not be those of the training.
_EVALUATED = ("data", "image_size", "split", "corruption", "strength", "severity", "precision")
_METRICS = ("psnr", "ssim", "psnr_hole", "psnr_known", "frechet", "top1", "top5", "f1", "auroc", "nll", "ece")

Repeat = tuple[int, int]  # seed, and fold or -1
Metric = tuple[str, int]  # name, and NFE or 0


@dataclass
class Setup:
    """One config, repeated.

    Attributes:
        name: what it does otherwise than the others.
        values: by metric and repeat.
        again: runs that repeat a seed and fold, which are not counted.
    """

    name: str
    values: dict[Metric, dict[Repeat, float]] = field(default_factory=dict)
    again: int = 0

    @property
    def repeats(self) -> set[Repeat]:
        return set().union(*self.values.values())


def setups(reports: Sequence[Report]) -> list[Setup]:
    """The configs of the runs, in their order; runs without config.yaml are left out."""
    groups: dict[tuple[Any, ...], list[Report]] = {}
    configs: dict[tuple[Any, ...], dict[str, str]] = {}
    for report in reports:
        own = settings(report)
        if own is None:
            continue
        values = {key: value for key, value in own.items() if key not in _REPEATED}
        key = (*sorted(values.items()), "checkpoint" in report.run)
        key += tuple(str(report.run.get(name)) for name in _EVALUATED)
        groups.setdefault(key, []).append(report)
        configs[key] = values
    names = sorted({name for values in configs.values() for name in values})
    differing = [name for name in names if len({values.get(name) for values in configs.values()}) > 1]
    found = []
    for key, members in groups.items():
        says = [_said(name, configs[key][name]) for name in differing if name in configs[key]]
        made = Setup(" ".join([members[0].group, *says[:3], *(["…"] if len(says) > 3 else [])]))
        for report in members:
            made.again += not _add(made, report)
        found.append(made)
    return found


def _said(key: str, value: str) -> str:
    """A setting in short: `loss=Focal` for its class."""
    group = key.removesuffix("._target_")
    return f"{key}={value}" if group == key else f"{group}={value.rpartition('.')[2]}"


def _add(setup: Setup, report: Report) -> bool:
    """Adds the values of a run; whether its seed and fold are new."""
    fold = (settings(report) or {}).get("data.fold", "None")
    repeat = int(report.run.get("seed") or 0), -1 if fold == "None" else int(fold)
    if repeat in setup.repeats:
        return False
    for row in report.rows():
        for name in _METRICS if row["method"] in OWN else ():
            if row.get(name) is not None:
                shown = f"frechet_{row['frechet_over']}" if name == "frechet" else name
                setup.values.setdefault((shown, row.get("nfe") or 0), {})[repeat] = row[name]
    return True


def spread(values: Sequence[float]) -> tuple[float, float, float, float]:
    """(mean, standard deviation, low, high): the interval is Student's, at the 95 % level; of one value NaN."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, *(math.nan,) * 3
    deviation = float(np.std(values, ddof=1))
    margin = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return mean, deviation, mean - margin, mean + margin


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of paired differences: the share of all choices of their signs whose mean is as far from 0.

    Exact up to 13 pairs, from 9,999 choices above (Fisher 1935).
    """
    values = np.asarray(differences, dtype=float)
    if not values.any():
        return 1.0
    found = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda one, other, axis=-1: np.mean(one - other, axis=axis),
        permutation_type="samples",  # exchanges the two of a pair, which turns the sign of their difference
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def paired(setup: Setup, reference: Setup, metric: Metric) -> tuple[int, Interval, float] | None:
    """Pairs, mean difference with Student's 95 % interval, and p of sign flips; None with fewer than two pairs."""
    own, other = setup.values.get(metric, {}), reference.values.get(metric, {})
    differences = [own[repeat] - other[repeat] for repeat in sorted(own.keys() & other.keys())]
    if len(differences) < 2:
        return None
    mean, _, low, high = spread(differences)
    return len(differences), (mean, low, high), sign_flip(differences)


def tables(reports: Sequence[Report], reference: Report | None = None) -> tuple[list[Table], list[str]]:
    """Tables of the repeated configs, and what to know about them; both empty if nothing is repeated.

    Args:
        reports: the runs.
        reference: a run of the config that the others are compared with; None: the first that is repeated.
    """
    every = setups([*reports, *([reference] if reference and reference not in reports else [])])
    found = [setup for setup in every if len(setup.repeats) > 1]
    if not found:
        return [], []
    result = [Table("config", "metric", "runs", "mean", "deviation", "95 % interval", title="repeats")]
    for setup in found:
        for metric, values in setup.values.items():
            mean, deviation, low, high = spread(list(values.values()))
            cells = f"{mean:.4g}", f"{deviation:.2g}", f"[{low:.4g}, {high:.4g}]"
            _add_row(result[0], setup.name, _shown(metric), str(len(values)), *cells)
    first = found[0]
    if reference is not None and (own := setups([reference])):
        key = next(iter(own[0].repeats), None)
        first = next((one for one in found if _holds(one, own[0], key)), first)
    fewest, pairs = ENOUGH, 0
    second = Table(
        "config", "metric", "pairs", "difference", "95 % interval", "p", title=f"differences to {first.name}"
    )
    for setup in found:
        for metric in setup.values if setup is not first else ():
            if (difference := paired(setup, first, metric)) is not None:
                count, (mean, low, high), p = difference
                cells = f"{mean:+.3g}", f"[{low:+.3g}, {high:+.3g}]", f"{p:.3f}"
                _add_row(second, setup.name, _shown(metric), str(count), *cells)
                fewest, pairs = min(fewest, count), pairs + 1
    return [*result, *([second] if pairs else [])], _notes(found, fewest)


def _add_row(table: Table, name: str, *cells: str) -> None:
    """Names a config once, in its first row; names are long."""
    names = [cell for cell in table.columns[0].cells if cell]
    known = bool(names) and names[-1] == name
    if names and not known:
        table.add_section()
    table.add_row("" if known else name, *cells)


def _holds(setup: Setup, one: Setup, key: Repeat | None) -> bool:
    """Whether a run is one of the setup's, by its values."""
    return all(setup.values.get(metric, {}).get(key) == values.get(key) for metric, values in one.values.items())  # type: ignore[arg-type]


def _notes(found: Sequence[Setup], fewest: int) -> list[str]:
    notes = ["interval: Student's t over the runs; p: sign flips of the differences, paired by seed and fold"]
    runs = min(fewest, *(len(setup.repeats) for setup in found))
    if runs < ENOUGH:
        least = 2 / 2**runs
        notes.append(f"{runs} seeds cannot reach 5 %: p is {least:.3g} at least; {ENOUGH} can (0.031)")
    if any(fold >= 0 for setup in found for _, fold in setup.repeats):
        notes.append("folds share training images, so that their intervals are too narrow (Nadeau & Bengio 2003)")
    if again := sum(setup.again for setup in found):
        notes.append(f"{again} runs repeat a seed of the same config; they are not counted")
    return notes


def _shown(metric: Metric) -> str:
    return f"{metric[0]} at NFE {metric[1]}" if metric[1] else metric[0]


def print_repeats(reports: Sequence[Report], reference: Report | None = None) -> None:
    made, notes = tables(reports, reference)
    for table in made:
        print_wide(table)
    for line in notes:
        print(line)
