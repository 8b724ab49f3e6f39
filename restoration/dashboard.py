"""A workspace of Weights & Biases for the runs of this project: quality, pictures and training of runs side by side.

python -m restoration.dashboard --entity me
python -m restoration.dashboard --json dashboard.json
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from restoration.errors import UserError
from restoration.run.command import command, output_folder
from restoration.training.loggers import wandb_mode

STEP = "trainer/global_step"  # Lightning's name of the step; 2.7 renames it
STRENGTH = "corruption.strength"
SAMPLES = 8  # pictures that a run sends


def dashboard(entity: str, project: str, nfe: Sequence[int] = (1, 8), samples: int = SAMPLES) -> Any:
    """The workspace, not yet sent anywhere.

    Its sections: quality over corruption strength (a point for each run of a sweep), curves over severity (a line for
    each run), the same pictures from each run, validation figures, stages of the training, and throughput.

    Args:
        entity, project: of W&B.
        nfe: network evaluations that the runs were evaluated at.
        samples: how many of the runs' pictures have a panel.

    Returns:
        `wandb_workspaces.workspaces.Workspace`.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    wr, ws = _library()

    def over_strength(figure: str, title: str) -> list[Any]:
        x = wr.Config(STRENGTH)
        return [
            wr.ScatterPlot(title=f"{title}, NFE {k}", x=x, y=wr.SummaryMetric(f"test/{figure}_nfe{k}")) for k in nfe
        ]

    def lines(title: str, *keys: str, x: str = STEP) -> Any:
        return wr.LinePlot(title=title, x=x, y=list(keys))

    def each(pattern: str) -> list[str]:
        return [pattern.format(k) for k in nfe]

    def pictures(stage: str) -> list[Any]:
        return [
            # A row for each run; degraded, restored and clean side by side; a slider over the steps.
            wr.MediaBrowser(
                title=f"image {number}",
                media_keys=[f"{stage}/sample_{number}"],
                mode="grid",
                grid_x_axis="index",
                grid_y_axis="run",
            )
            for number in range(1, samples + 1)
        ]

    by_severity = {"psnr": "PSNR (dB)", "psnr_hole": "PSNR in the hole (dB)", "gain": "gain in PSNR (dB)"}
    sections = {
        "Quality over corruption strength": [
            *over_strength("psnr", "PSNR (dB)"),
            *over_strength("psnr_hole", "PSNR in the hole (dB)"),
        ],
        "By severity": [
            lines(title, *each(f"severity/{figure}_nfe{{}}"), x="severity/u") for figure, title in by_severity.items()
        ],
        "Restored test images": pictures("test"),
        "Validation": [
            lines("PSNR (dB)", *each("val/psnr_nfe{}")),
            lines("PSNR in the hole (dB)", *each("val/psnr_hole_nfe{}")),
            lines("Fréchet distance", *each("val/frechet_nfe{}")),
            lines("loss", "train/loss", "val/loss"),
        ],
        "Validation images": pictures("val"),
        "Stages": [
            lines("stage", "train/stage"),
            lines("learning rates", "lr/new", "lr/encoder_upper", "lr/encoder_lower"),
        ],
        "Throughput": [
            lines("images per second", "train/device/samples_per_sec"),
            lines("share of the time that waits for data", "data_share"),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="restoration",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
    )


def specification(workspace: Any) -> str:
    """The workspace as JSON, as W&B stores it."""
    return str(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2))


def _library() -> tuple[Any, Any]:
    """Modules of wandb-workspaces: panels, and the workspace."""
    try:
        return importlib.import_module("wandb_workspaces.reports.v2"), importlib.import_module(
            "wandb_workspaces.workspaces"
        )
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'restoration[dashboard]'") from error


def _save(workspace: Any) -> str:
    """Sends the workspace to W&B as a new view; gives its address."""
    try:
        workspace.entity = workspace.entity or wandb.Api().default_entity
        return str(workspace.save().url)
    except (wandb.Error, OSError, ValueError) as error:
        raise UserError(f"W&B did not take the dashboard: {next(iter(str(error).splitlines()), error)}") from error


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m restoration.dashboard", description="Make a W&B workspace for the runs of this project."
    )
    parser.add_argument("--entity", default="", help="user or team of W&B; by default the one of the key")
    parser.add_argument("--project", default="restoration", help="logger.wandb.project of the runs")
    parser.add_argument("--nfe", type=int, nargs="+", default=[1, 8], help="evaluation.nfe of the runs")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="how many pictures have a panel")
    parser.add_argument("--json", type=Path, help="write the workspace to this file instead; needs no account")
    options = parser.parse_args(arguments)
    if min(options.nfe) < 1 or not 0 <= options.samples <= SAMPLES:
        raise UserError(f"--nfe takes numbers from 1 up, --samples one from 0 to {SAMPLES}")
    workspace = dashboard(options.entity, options.project, options.nfe, options.samples)
    if options.json:
        output_folder(options.json.absolute().parent)
        options.json.write_text(specification(workspace) + "\n")
        print(f"wrote {options.json}")
        return
    if wandb_mode() != "online":
        raise UserError("no key of W&B: `wandb login` first, or write the dashboard to a file with --json FILE")
    print(f"dashboard: {_save(workspace)}")


if __name__ == "__main__":
    main()
