"""Which of two runs is better, and where, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from restoration.report.folder import Interval, Report

# Column of per_image.csv -> how a sentence calls it.
PLACES = {"psnr": "whole image", "psnr_known": "known region", "psnr_hole": "hole"}


@dataclass(frozen=True)
class Finding:
    """One paired difference to another run."""

    place: str
    unit: str
    interval: Interval
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no difference` if the interval holds 0."""
        value, low, high = self.interval
        if low <= 0.0 <= high:
            return "no difference"
        return "better" if (value > 0) == self.higher_is_better else "worse"

    @property
    def text(self) -> str:
        value, low, high = self.interval
        return f"{self.place} {value:+.2f}{self.unit} [{low:+.2f}, {high:+.2f}]"


def nfe_of(report: Report) -> list[int]:
    """The numbers of evaluations that a run has results for, ascending."""
    return sorted(point["nfe"] for point in report.metrics.get("by_nfe") or [])


def findings(report: Report, reference: Report, nfe: int) -> list[Finding]:
    """The differences at that NFE that both runs can tell; empty if they are not `comparable`."""
    found = []
    for metric, place in PLACES.items():
        if (interval := report.difference(reference, nfe, metric)) is not None:
            found.append(Finding(f"PSNR of the {place}", " dB", interval, True))
    if (interval := report.difference(reference, nfe, "ssim")) is not None:
        found.append(Finding("SSIM", "", interval, True))
    if (interval := report.frechet_difference(reference, nfe)) is not None:
        found.append(Finding("Fréchet distance", "", interval, False))
    return found


def verdict(report: Report, name: str, reference: Report | None, other: str) -> str:
    """One sentence: where the run is better or worse than another one, at each NFE that both have.

    Without a run to compare with, how far it is above the degraded images.

    Args:
        name, other: what the page calls the two.
    """
    shared = sorted(set(nfe_of(report)) & set(nfe_of(reference))) if reference is not None else []
    told = []
    for nfe in shared:
        found = findings(report, reference, nfe) if reference is not None else []
        parts = []
        for word in ("better", "worse", "no difference"):
            said = ", ".join(finding.text for finding in found if finding.verdict == word)
            parts += [f"{word} ({said})"] if said else []
        if parts:
            told.append(f"at {nfe} NFE {' and '.join([', '.join(parts[:-1]), parts[-1]] if parts[1:] else parts)}")
    if told:
        return f"{name} against {other}: {'; '.join(told)}."
    identity, restored = report.metrics["identity"]["psnr"], report.metrics["restored"]["psnr"]
    return f"{name} has no counterpart on the same degraded images: PSNR {restored - identity:+.2f} dB to them."


def reference_of(reports: Sequence[Report], number: int, chosen: Report | None) -> Report | None:
    """The run that `reports[number]` is compared with: the chosen one, else the first on the same degraded images.

    None if there is none but the run itself.
    """
    report = reports[number]
    for other in reports[:number] if chosen is None else [chosen]:
        if other.folder != report.folder and any(report.comparable(other, nfe) for nfe in nfe_of(report)):
            return other
    return None
