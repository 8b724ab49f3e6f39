"""docs/extending.md: its files, written to a folder, train, restore and are benchmarked."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from helpers import complaint, run_command
from torch.nn.attention import SDPBackend, sdpa_kernel

from restoration.benchmark import main as benchmark
from restoration.corruption import Corruption
from restoration.keyed import fold
from restoration.restore import main as restore
from restoration.restorer import Restorer
from restoration.train import main as train

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
FILES = dict(
    re.findall(r"^`((?:my_project|conf)/[^`]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
RUN = [
    *("experiment=demo", "name=run", "data.image_size=32", "budget.images=64", "evaluation.images=16"),
    *("evaluation.spread_samples=0", "trainer.precision=32-true", "trainer.accelerator=cpu"),
    *("callbacks.progress_bar=null", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"),
]
SMALL = ["data.train_images=64", "data.selection_images=16", "data.test_images=16", "data.batch_size=16"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("my_project")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def trained(*overrides: str) -> dict:
    assert run_command(train, *RUN, *overrides, flags=["--config-dir", "conf"]) == 0
    return json.loads(Path("outputs/demo/run/metrics.json").read_text())


def test_the_page_has_a_python_and_a_yaml_file_of_each_kind():
    assert sorted(name.split("/")[0] for name in FILES) == ["conf"] * 5 + ["my_project"] * 5
    kinds = {Path(name).parent.name for name in FILES if name.startswith("conf")}
    assert kinds == {"backbone", "corruption", "objective", "sampler", "data"}


def test_a_backbone(project: Path, capsys: pytest.CaptureFixture[str]):
    """It trains on dead leaves as a flow, restores, is benchmarked, and its field takes two times and a JVP."""
    lines = FILES["my_project/patches.py"].split("class Patches")[1].strip().splitlines()
    assert len(lines) <= 30
    flow = ["source=noise", "objective=flow_matching", "sampler=exponential", "evaluation.nfe=[1,2]"]
    metrics = trained("backbone=patches", *flow, *SMALL)
    assert [point["nfe"] for point in metrics["by_nfe"]] == [1, 2]

    checkpoint = "outputs/demo/run/checkpoints/best.ckpt"
    image = "outputs/demo/run/images/grid.png"
    arguments = [f"checkpoint={checkpoint}", f"input={image}", "output=new", "tile=64", "nfe=1"]
    assert run_command(restore, *arguments) == 2
    assert "(backbone), which is not allowed there; nothing was executed" in (message := complaint(capsys))
    assert message.endswith("add trust=my_project")
    assert run_command(restore, *arguments, "trust=my_project") == 0
    assert (project / "new" / "grid.png").is_file()

    benchmark(
        ["small", "patches", "--config-dir", "conf", "--nfe", "1", "--size", "32", "--batch", "2", "--rounds", "1"]
    )
    assert "patches" in capsys.readouterr().out

    restorer = Restorer.load(checkpoint, trust="my_project").double()
    field = restorer.field(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    x, v = torch.randn(2, 2, 3, 32, 32, dtype=torch.float64)
    t, r = torch.tensor([0.2, 0.5]).double(), torch.tensor([0.9, 0.6]).double()
    primals, tangents = (x, t, r), (v, torch.ones_like(t), torch.zeros_like(r))
    with sdpa_kernel(SDPBackend.MATH):
        _, derivative = torch.func.jvp(field.displacement, primals, tangents)
        step = 1e-5
        ahead, behind = (
            field.displacement(*(p + sign * step * d for p, d in zip(primals, tangents, strict=True)))
            for sign in (1, -1)
        )
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_a_corruption(project: Path):
    metrics = trained("corruption=quantise", *SMALL)
    assert metrics["run"]["corruption"] == "quantise"
    from my_project.quantise import Quantise

    clean, keys = torch.randint(256, (4, 3, 8, 8)) / 255, fold(torch.arange(4))
    degraded, _, _ = Corruption(Quantise(), strength=0.0)(clean, keys)
    assert torch.equal(degraded, clean)


def test_an_objective(project: Path):
    flow = ["source=noise", "sampler=exponential", "evaluation.nfe=[1,2]"]
    trained("objective=flow_and_edges", *flow, *SMALL)
    assert "train/edges" in Path("outputs/demo/run/metrics.csv").read_text().splitlines()[0]


def test_a_sampler(project: Path):
    flow = ["source=noise", "objective=flow_matching", "evaluation.nfe=[4]"]
    metrics = trained("sampler=ralston", *flow, *SMALL)
    assert metrics["by_nfe"][0]["solver"] == "Ralston"
    from my_project.ralston import Ralston

    from restoration.flow import Field

    class Exponential(Field):
        def velocity(self, x_t, t, r=None):
            return x_t

    start = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    errors = [float((Ralston()(Exponential(), start, 2 * n) - torch.e).abs().max()) for n in (10, 20)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_data(project: Path):
    metrics = trained("data=stripes")
    assert metrics["run"]["data"] == "stripes" and metrics["n"] == 16
