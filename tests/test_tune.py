"""Fitting a time grid: never worse than the uniform one, and right where the best is known."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, Velocity, complaint, composed, run_command
from omegaconf import OmegaConf
from torch import Tensor, nn

from restoration.flow import to_model
from restoration.restorer import Restorer
from restoration.sampler import Euler, Midpoint
from restoration.tune import main, tune


class LateField(Velocity):
    """dx/dt = 8·t⁷·c: almost the whole way is made at the end, so the steps should be short there."""

    residual_std = None

    def __init__(self, degraded: Tensor) -> None:
        super().__init__(lambda x_t, t: 8 * t[:, None, None, None] ** 7 * 0.3 * torch.ones_like(x_t))
        self.degraded = degraded

    def start(self, keys: Tensor) -> Tensor:
        return to_model(self.degraded)


class Late(Restorer):
    """Restores with a `LateField`."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def field(self, degraded: Tensor, *_: object) -> LateField:
        return LateField(degraded)


@pytest.mark.parametrize("solver", [Euler, Midpoint], ids=["Euler", "Midpoint"])
def test_steps_are_short_where_the_path_bends(solver):
    degraded = torch.full((2, 3, 8, 8), 0.3)
    warp, after, before = tune(Late(), degraded, torch.arange(2), solver(), nfe=4)
    assert after < before / 2
    times = solver(warp=warp).time_grid(4)
    assert times[1] > 0.3 > 1 - times[-2]
    # The reported distance is that of the sampler with this warp.
    restored = solver(4, warp)(LateField(degraded), to_model(degraded))
    exact = to_model(degraded) + 0.3
    assert (restored - exact).abs().max() / 2 == pytest.approx(after, abs=0.003)


def test_the_command_prints_what_to_give_to_the_sampler(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with composed("train", "experiment=blur_erase", *TINY, "folder=run") as config:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    restorer = Restorer.build(plain)
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {f"restorer.{name}": value for name, value in restorer.state_dict().items()}
    torch.save({"config": plain, "state_dict": state}, "best.ckpt")
    arguments = ["checkpoint=best.ckpt", "nfe=3", "images=6", "reference=40", "sampler=midpoint"]
    assert run_command(main, *arguments) == 0
    said = capsys.readouterr().out
    before, after = re.search(
        r"Midpoint, 3 NFE: RMSE to 40 Euler steps ([\d.]+) uniform, ([\d.]+) warped", said
    ).groups()
    assert 0 < float(after) <= float(before)
    grid = r"sampler=midpoint 'sampler.warp=\[[\d.]+,[\d.]+\]'\n"
    assert re.search(f"for restore: nfe=3 {grid}for evaluate: evaluation.nfe=3 {grid}", said)


@pytest.mark.parametrize("argument", ["images=0", "nfe=2.5", "reference=null"])
def test_a_mistake_is_one_line(argument: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, "checkpoint=none.ckpt", argument) == 2
    assert complaint(capsys).startswith(f"{argument} must be a whole number from 1 ")
