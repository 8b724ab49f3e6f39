"""Which of two runs is better, and where, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from restoration.report.folder import Interval, Report

# Column of per_image.csv -> what a sentence calls it, and its unit.
METRICS = {
    "psnr": ("PSNR", " dB"),
    "psnr_known": ("known region", " dB"),
    "psnr_hole": ("hole", " dB"),
    "ssim": ("SSIM", ""),
}
VERDICTS = ("better", "worse", "no difference")


@dataclass(frozen=True)
class Finding:
    """One paired difference to another run, at one NFE."""

    nfe: int
    name: str
    unit: str
    interval: Interval
    higher_is_better: bool = True

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no difference` if the interval holds 0."""
        value, low, high = self.interval
        if low <= 0.0 <= high:
            return "no difference"
        return "better" if (value > 0) == self.higher_is_better else "worse"

    @property
    def text(self) -> str:
        return signed(self.interval, self.unit, "+.2f" if self.unit else "+.3f" if self.higher_is_better else "+.3g")


def signed(interval: Interval, unit: str, form: str = "+.2f") -> str:
    """A difference with its interval, such as `+0.50 dB [+0.48, +0.52]`."""
    value, low, high = (format(number, form) for number in interval)
    return f"{value}{unit} [{low}, {high}]"


def nfe_of(report: Report) -> list[int]:
    """The numbers of evaluations that a run has results for, ascending."""
    return sorted(point["nfe"] for point in report.metrics.get("by_nfe") or [])


def findings(report: Report, reference: Report) -> list[Finding]:
    """The differences at each NFE that both runs have; empty if they are not `comparable`."""
    found = []
    for nfe in sorted(set(nfe_of(report)) & set(nfe_of(reference))):
        for metric, (name, unit) in METRICS.items():
            if (interval := report.difference(reference, nfe, metric)) is not None:
                found.append(Finding(nfe, name, unit, interval))
        if (interval := report.frechet_difference(reference, nfe)) is not None:
            found.append(Finding(nfe, "Fréchet distance", "", interval, higher_is_better=False))
    return found


def against(found: Sequence[Finding]) -> str:
    """In which metrics a run is better or worse than another, or not different, at the fewest and the most NFE."""
    nfe = sorted({finding.nfe for finding in found})
    told = []
    for steps in dict.fromkeys([nfe[0], nfe[-1]]):
        parts = []
        for word in VERDICTS:
            own = [finding for finding in found if finding.nfe == steps and finding.verdict == word]
            said = [f"{one.name} ({one.text})" if one.name == "PSNR" else one.name for one in own]
            parts += [f"{word} in {', '.join(said)}"] if said else []
        told.append(f"at {steps} NFE {', '.join(parts)}")
    return "; ".join(told)


def alone(report: Report) -> str:
    """How far the restored images of a run are above the degraded ones."""
    restored = report.metrics["restored"]
    nfe = restored.get("nfe")
    interval = report.gain(nfe) if nfe is not None else None
    gain = (
        f"{restored['psnr'] - report.metrics['identity']['psnr']:+.2f} dB"
        if interval is None
        else signed(interval, " dB")
    )
    return f"PSNR {gain} against the degraded images{f' at {nfe} NFE' if nfe is not None else ''}"


def reference_of(reports: Sequence[Report], number: int, chosen: Report | None) -> Report | None:
    """The run that `reports[number]` is compared with: the chosen one, else the first on the same degraded images.

    None if there is none but the run itself.
    """
    report = reports[number]
    for other in reports[:number] if chosen is None else [chosen]:
        if other.folder != report.folder and any(report.comparable(other, nfe) for nfe in nfe_of(report)):
            return other
    return None
