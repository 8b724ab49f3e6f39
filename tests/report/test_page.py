"""The page of several runs: complete in itself, bounded, escaped, and about the numbers of metrics.json."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from examples import metrics, save
from PIL import Image
from runs import write_run

from restoration.compare import main
from restoration.errors import UserError
from restoration.report import samples, write
from restoration.report.folder import Report, find
from restoration.report.page import LIMIT, page

VOID = {"meta", "img", "input", "br"}


class Elements(HTMLParser):
    """The elements of a page: (tag, attributes, text directly in it). An element that is not closed fails."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag}: an attribute twice"
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text).strip() for found, _, text in self.found if found == tag]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [("first", 3.0, 1.0), ("second", 3.5, 1.0), ("mild", 3.0, 0.5)]
    return [write_run(folder / name, name, gain, strength, seed=n) for n, (name, gain, strength) in enumerate(runs)]


def test_it_loads_nothing_and_only_its_own_script_may_run(three: list[Report]):
    content = page(three)
    assert "://" not in content and "@import" not in content and "url(" not in content
    elements = Elements(content).found
    assert not {tag for tag, _, _ in elements} & {"link", "iframe", "base", "object", "embed", "img"}
    assert not any(name.startswith("on") or name in ("src", "href") for _, found, _ in elements for name in found)
    policy = next(found["content"] for tag, found, _ in elements if "http-equiv" in found)
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")


def test_the_html_is_sound(three: list[Report]):
    elements = Elements(page(three)).found
    ids = [found["id"] for _, found, _ in elements if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found, _ in elements:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert found.get(name, ids[0]) in ids
    levels = [int(tag[1]) for tag, _, _ in elements if re.fullmatch(r"h\d", tag)]
    assert levels == [1] + [2] * (len(levels) - 1) and elements[0][1] == {"lang": "en"}
    labelled = {found["for"] for tag, found, _ in elements if tag == "label" and "for" in found}
    assert {found["id"] for tag, found, _ in elements if found.get("type") == "range"} <= labelled


def test_its_sections_stand_in_their_order(three: list[Report]):
    headings = Elements(page(three)).texts("h2")
    assert headings == [
        *("Which is better, and where", "Results", "Over corruption strength", "By severity"),
        *("Perception and distortion over NFE", "Training", "Differences of the configs", "The same pictures"),
    ]


def test_the_numbers_are_those_of_metrics_json(three: list[Report]):
    elements = Elements(page(three))
    shown = [(float(found["value"] or ""), "".join(text)) for tag, found, text in elements.found if tag == "data"]
    for report in three:
        saved = json.loads((report.folder / "metrics.json").read_text())
        for point in [saved["identity"], *saved["by_nfe"]]:
            for key, decimals in (("psnr", 2), ("ssim", 3), ("psnr_hole", 2), ("frechet_maps", 2)):
                if key in point:
                    assert (point[key], f"{point[key]:.{decimals}f}") in shown
    assert "[14.75, 15.25]" in elements.texts("small")  # the first run's PSNR of 15 dB at 1 NFE


def test_the_verdicts_are_those_of_the_paired_differences(three: list[Report]):
    content = page(three)
    first, second, mild = (
        text for text in Elements(content).texts("div") if " degraded images" in text or "at 1" in text
    )
    value, low, high = three[1].difference(three[0], 1) or ()
    assert low > 0
    assert f"second against first: at 1 NFE better in PSNR ({value:+.2f} dB [{low:+.2f}, {high:+.2f}])" in second
    assert first.startswith("first (others are compared with it): PSNR +3.0")
    assert mild.startswith("mild (no other run has the same degraded images): PSNR +3.0")
    assert f"{value:+.2f} dB [{low:+.2f}, {high:+.2f}]" in Elements(content).texts("td")
    # The other way round, what was better is worse.
    assert "first against second: at 1 NFE worse in PSNR (-" in page(three, three[1])


def test_a_run_is_not_compared_with_itself(tmp_path: Path):
    """The second has been evaluated at 8 NFE, the first has not."""
    first, second = (write_run(tmp_path / name, name, gain) for name, gain in (("first", 3.0), ("second", 3.5)))
    figures = json.loads((first.folder / "metrics.json").read_text())
    figures["by_nfe"] = figures["by_nfe"][:1]
    (first.folder / "metrics.json").write_text(json.dumps(figures))
    lines = (first.folder / "per_image.csv").read_text().splitlines()
    nfe = lines[0].split(",").index("nfe")
    kept = [line for line in lines if line.split(",")[nfe] != "8"]
    assert len(kept) < len(lines)
    (first.folder / "per_image.csv").write_text("\n".join(kept) + "\n")
    cells = Elements(page([Report.load(first.folder), Report.load(second.folder)])).texts("td")
    assert [text for text in cells if text.startswith("+0.")].count("+0.50") == 1
    assert not any(text.startswith("+0.00") for text in cells)


def test_a_difference_below_its_interval_is_none(tmp_path: Path):
    runs = [write_run(tmp_path / name, name, gain) for name, gain in (("first", 3.0), ("second", 3.001))]
    _, low, high = runs[1].difference(runs[0], 1) or ()
    assert low < 0 < high
    assert "no difference in PSNR (" in page(runs) and "better in PSNR" not in page(runs)


def test_the_same_runs_give_the_same_page(three: list[Report]):
    assert page(three) == page([Report.load(report.folder) for report in three])


def test_names_and_configs_are_text(tmp_path: Path):
    evil = "</script><script>alert(1)</script>"
    report = write_run(tmp_path / "run", evil)
    other = write_run(tmp_path / "other", "<img src=x onerror=alert(2)>", 3.5, seed=1)
    (other.folder / "config.yaml").write_text("loss: '\"><svg onload=alert(3)>'\n")
    elements = Elements(page([report, other]))
    tags = [tag for tag, _, _ in elements.found]
    assert tags.count("script") == 2 and "img" not in tags
    assert not any(name.startswith("on") for _, found, _ in elements.found for name in found)
    assert f"1 · {evil}" in elements.texts("li") and '"><svg onload=alert(3)>' in elements.texts("code")


def test_twenty_runs_with_large_pictures_stay_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nothing = SimpleNamespace(save=lambda path: None, savefig=lambda path: None)
    monkeypatch.setattr(write, "nfe_curve", lambda metrics: nothing)
    monkeypatch.setattr(write, "picture_grid", lambda columns: nothing)
    runs = [write_run(tmp_path / f"run{n}", f"run{n}", 3 + n / 10, side=64, seed=n) for n in range(20)]
    content = page(runs)
    assert LIMIT / 3 < len(content.encode()) <= LIMIT == 5_000_000
    assert "Pictures are WebP of quality 90." in content
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.+?)</script>', content)[0])
    # Clean and degraded pictures are the same in all runs and stored once.
    assert len(data["pictures"]) == 8 and len(data["images"]) == 8 * (2 + 2 * 20)
    assert all(len(picture["runs"]) == 20 for picture in data["pictures"])
    with pytest.raises(UserError, match="the 336 pictures of these runs do not fit into one page"):
        samples.Pictures(runs).encode(100_000)


def test_what_a_folder_does_not_hold_is_left_out_and_said(three: list[Report], tmp_path: Path, capsys):
    for report in three[:2]:
        shutil.copytree(report.folder, tmp_path / report.name)
        folder = tmp_path / report.name
        shutil.rmtree(folder / "images")
        for name in ("per_image.csv", "config.yaml", "metrics.csv"):
            (folder / name).unlink()
        content = json.loads((folder / "metrics.json").read_text()) | {"by_severity": []}
        (folder / "metrics.json").write_text(json.dumps(content))
    main([str(tmp_path), "--html", str(tmp_path / "page.html")])
    *notes, wrote = capsys.readouterr().out.splitlines()[-3:]
    for name, note in zip(("first", "second"), notes, strict=True):
        lacks = "no differences and pictures (per_image.csv, images/samples: evaluate it again), no config"
        assert note == f"{tmp_path / name} has {lacks} (config.yaml), no training curves (metrics.csv)"
    assert wrote == f"wrote {tmp_path / 'page.html'}: open it in a browser"
    content = (tmp_path / "page.html").read_text()
    headings = Elements(content).texts("h2")
    assert headings == ["Which is better, and where", "Results", "Perception and distortion over NFE"]
    assert "<script" not in content


def test_the_pictures_are_the_examples(three: list[Report]):
    """To the pixel, without loss, under their index and kind."""
    files = sorted(path.name for path in (three[0].folder / write.SAMPLES).iterdir())
    assert files == sorted(f"{100 + i}_{kind}.png" for i in range(8) for kind in ("clean", "degraded", "nfe1", "nfe8"))
    expected = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))[3]
    with Image.open(three[0].folder / write.SAMPLES / "103_clean.png") as image:
        assert np.array_equal(np.asarray(image), (expected * 255).round().byte().permute(1, 2, 0).numpy())


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    return said.err


def test_mistakes_are_one_line(three: list[Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, target = str(three[0].folder), tmp_path / "page.html"
    target.write_text("mine")
    asked = ["--html", str(target)]
    assert "already there" in complaint([run, *asked], capsys) and target.read_text() == "mine"
    (tmp_path / "no run").mkdir()
    nothing = f"error: no metrics.json in or below {tmp_path / 'no run'}"
    assert complaint([run, str(tmp_path / "no run")], capsys).startswith(nothing)
    main([run, *asked, "--overwrite"])
    assert "Comparison of 1 run<" in target.read_text()


def test_an_older_report_is_named(tmp_path: Path):
    folder = save(tmp_path / "old", {"restored": {"ssim": 0.5}, "by_nfe": [{"psnr": 20.0}]})
    with pytest.raises(UserError, match=r"old/metrics.json lacks identity.psnr, restored.psnr, by_nfe\[\].nfe"):
        page(find([folder]))
    # Without intervals, severities and images there is still a page.
    assert "Results" in page([Report.load(save(tmp_path / "bare", metrics(1.0)))])
