"""Curves of results over NFE and over corruption strength."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from restoration.report.folder import Report

REGIONS = (("psnr", "whole image", "#1f4e79"), ("psnr_known", "known", "#4c9f70"), ("psnr_hole", "hole", "#d1603d"))
NFE_LABEL = "NFE (network evaluations per image)"

Point = tuple[str, float | None, Mapping[str, Any]]  # label of the line, x, metrics


def nfe_curve(metrics: Mapping[str, Any]) -> Figure:
    """PSNR, hole texture and, if measured, the Fréchet distance over NFE, with 95 % intervals.

    The perception-distortion curve of one checkpoint (Blau & Michaeli 2018), from the content of metrics.json.
    """
    entries = sorted(metrics["by_nfe"], key=lambda entry: entry["nfe"])
    frechet = next((key for key in entries[0] if key.startswith("frechet_")), None)
    panels: list[tuple[str, Iterable[tuple[str, str, str]]]] = [("PSNR (dB), higher is better", REGIONS)]
    if entries[0]["texture_ratio"] is not None:
        panels.append(("hole texture, 1 is right", [("texture_ratio", "restored / clean", "#d1603d")]))
    if frechet is not None:
        panels.append((f"{frechet}, lower is better", [(frechet, frechet, "#6a4c93")]))

    figure = Figure(figsize=(4.2 * len(panels), 3.4), dpi=150, layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        for key, label, colour in lines:
            known = [entry for entry in entries if entry[key] is not None]
            if not known:
                continue
            nfe, values = [entry["nfe"] for entry in known], [entry[key] for entry in known]
            axes.plot(nfe, values, "o-", color=colour, label=label, linewidth=1.8, markersize=4.5)
            if f"{key}_ci" in known[0]:
                low, high = zip(*(entry[f"{key}_ci"] for entry in known), strict=True)
                axes.fill_between(nfe, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks([entry["nfe"] for entry in entries], [str(entry["nfe"]) for entry in entries])
        axes.minorticks_off()
        axes.set_xlabel(NFE_LABEL)
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if title.startswith("hole texture"):
            axes.axhline(1.0, color="#888888", linestyle=":")
            axes.set_ylim(bottom=0.0)
    all_axes[0].axhline(metrics["identity"]["psnr"], color="#888888", linestyle=":", label="degraded, whole image")
    handles = all_axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    figure.suptitle(f"{metrics['n']:,} images, {entries[0]['solver']}", fontsize=9, color="#555555")
    return figure


def write_curves(reports: Sequence[Report], folder: Path) -> list[Path]:
    """`strength.png` if a group has several strengths, and `nfe.png` if a run has several NFE."""
    written = []
    for name, x_label, points in (("strength.png", "corruption strength", _strengths), ("nfe.png", NFE_LABEL, _nfes)):
        figure, several = Figure(figsize=(11, 4.2), layout="constrained"), False
        panels = zip(figure.subplots(1, 2), ("psnr", "psnr_hole"), ("PSNR", "PSNR in the hole"), strict=True)
        for axes, metric, y_label in panels:
            lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for label, x, values in (point for report in reports for point in points(report)):
                if x is not None and values.get(metric) is not None:
                    lines[label].append((x, values[metric]))
            for label, line in lines.items():
                style = "--" if label.endswith(" identity") else "-"
                axes.plot(*zip(*sorted(line), strict=True), style, marker="o", label=label)
            several |= any(len(dict(line)) > 1 for line in lines.values())
            axes.set(xlabel=x_label, ylabel=f"{y_label} (dB)")
            if points is _nfes:
                axes.set_xscale("log", base=2)
            axes.grid(alpha=0.3)
            if lines:
                axes.legend(fontsize=8)
        if several:
            figure.savefig(folder / name, dpi=120)
            written.append(folder / name)
    return written


def _strengths(report: Report) -> list[Point]:
    parts = {report.group: "restored", f"{report.group} identity": "identity"}
    return [(label, report.run.get("strength"), report.metrics.get(part) or {}) for label, part in parts.items()]


def _nfes(report: Report) -> list[Point]:
    return [
        (f"{report.group}/{report.name} {point.get('solver', '')}".strip(), point["nfe"], point)
        for point in report.metrics.get("by_nfe") or []
    ]
