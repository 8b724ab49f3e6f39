"""results.md and recognition.md show the CSV files of docs/results/, and the links of the documentation lead somewhere.

How a table is made of its CSV file (`<!-- table: NAME.csv -->` stands above it):
- One table row for each `run` and `nfe`; where headings begin with "NFE k:", one row for each `run` instead, and such a
  column shows the figure that the run has at that NFE.
- A figure has the digits stated in `TABLES`, with a sign where it is a difference. If the CSV file has `…_low` and
  `…_high`, they follow in square brackets. Text stands as it is. An empty value is a dash (–). Minus is −.
"""

import csv
import itertools
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = [DOCS / "results.md", DOCS / "recognition.md"]

# Heading: column and format. "" is text; "a / b" shows two columns.
TABLES = {
    "main.csv": {
        "method": ("what", ""),
        "NFE": ("nfe", ""),
        "PSNR": ("psnr", ".2f"),
        "SSIM": ("ssim", ".3f"),
        "hole": ("psnr_hole", ".2f"),
        "known": ("psnr_known", ".2f"),
        "texture": ("texture", ".2f"),
        "spread": ("spread", ".3f"),
        "Fréchet": ("frechet", ".1f"),
        "verdict": ("verdict", ""),
    },
    "curve.csv": {
        "NFE": ("nfe", ""),
        "PSNR": ("psnr", ".2f"),
        "texture": ("texture", ".2f"),
        "spread, hole": ("spread", ".3f"),
        "spread, known": ("spread_known", ".3f"),
        "Fréchet": ("frechet", ".1f"),
    },
    "one_step.csv": {
        "corruption": ("corruption", ""),
        "method": ("what", ""),
        "NFE": ("nfe", ""),
        "PSNR": ("psnr", ".2f"),
        "hole": ("psnr_hole", ".2f"),
        "texture": ("texture", ".2f"),
        "spread": ("spread", ".3f"),
        "Fréchet": ("frechet", ".1f"),
        "verdict": ("verdict", ""),
    },
    "digits.csv": {
        "method": ("what", ""),
        "NFE": ("nfe", ""),
        "noise: dB": ("noise_psnr", ".2f"),
        "noise: top-1": ("noise_top1", ".1f"),
        "salt and pepper: dB": ("salt_psnr", ".2f"),
        "salt and pepper: top-1": ("salt_top1", ".1f"),
        "block mask: dB": ("mask_psnr", ".2f"),
        "block mask: top-1": ("mask_top1", ".1f"),
        "all: top-1": ("top1", ".1f"),
        "texture": ("texture", ".2f"),
        "Fréchet": ("frechet", ".1f"),
        "verdict": ("verdict", ""),
    },
    "recognition.csv": {
        "blur": ("what", ""),
        "images": ("n", ""),
        "clean": ("clean", ".1f"),
        "degraded": ("degraded", ".1f"),
        "restored, NFE 1": ("one", ".1f"),
        "restored, NFE 8": ("eight", ".1f"),
    },
    "encoders.csv": {
        "encoder": ("what", ""),
        "NFE": ("nfe", ""),
        "PSNR": ("psnr", ".2f"),
        "hole": ("hole", ".2f"),
        "Fréchet": ("frechet", ".1f"),
        "verdict": ("verdict", ""),
    },
    "transfer.csv": {
        "network": ("network", ""),
        "transfer": ("what", ""),
        "trains": ("trainable", ",.0f"),
        "seconds": ("seconds", ".0f"),
        "top-1": ("top1", ".1f"),
        "verdict": ("verdict", ""),
    },
    "augmentation.csv": {
        "training": ("what", ""),
        "clean": ("clean", ".1f"),
        "degraded": ("degraded", ".1f"),
        "restored": ("restored", ".1f"),
        "verdict": ("verdict", ""),
    },
    "ablations.csv": {
        "change": ("what", ""),
        "solver": ("solver", ""),
        "NFE 1: PSNR": ("psnr", ".2f"),
        "NFE 1: ΔPSNR": ("psnr_difference", "+.2f"),
        "NFE 8: PSNR": ("psnr", ".2f"),
        "NFE 8: ΔPSNR": ("psnr_difference", "+.2f"),
        "NFE 8: Fréchet": ("frechet", ".1f"),
        "NFE 8: ΔFréchet": ("frechet_difference", "+.1f"),
        "training time": ("train_time", ""),
        "verdict": ("verdict", ""),
    },
    "fast.csv": {
        "network": ("what", ""),
        "NFE": ("nfe", ""),
        "PSNR": ("psnr", ".2f"),
        "texture": ("texture", ".2f"),
        "Fréchet": ("frechet", ".1f"),
        "minutes": ("minutes", ".1f"),
        "minutes to the default's end": ("to", ".1f"),
        "verdict": ("verdict", ""),
    },
}


def read(name: str) -> list[dict[str, str]]:
    with (DOCS / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def cell(row: dict[str, str], column: str, form: str) -> str:
    value = row.get(column, "")
    if value == "":
        return "–"
    if form == "":
        return value
    text = format(float(value), form)
    if row.get(f"{column}_low"):
        low, high = (format(float(row[f"{column}_{end}"]), form) for end in ("low", "high"))
        text += f" [{low}, {high}]"
    return text.replace("-", "−")


def table(name: str) -> list[str]:
    """The lines of the Markdown table."""
    columns = TABLES[name]
    rows = read(name)
    pivoted = any(heading.startswith("NFE ") for heading in columns)
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        key = (row["run"],) if pivoted else (row.get("what", row["run"]), row["run"], row.get("nfe", ""))
        groups.setdefault(key, []).append(row)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for group in groups.values():
        cells = []
        for heading, (column, form) in columns.items():
            row = group[0]
            if match := re.match(r"NFE (\d+):", heading):
                row = next((one for one in group if one["nfe"] == match[1]), {})
            cells.append(cell(row, column, form))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def shown(text: str) -> dict[str, list[str]]:
    """The tables of a page by the CSV file that each names; a table that names none is an error."""
    tables: dict[str, list[str]] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("|") and not lines[number - 1].startswith("|"):
            match = re.fullmatch(r"<!-- table: (\S+) -->", lines[number - 1])
            assert match, f"line {number + 1}: no CSV file is named above this table"
            end = next((at for at in range(number, len(lines)) if not lines[at].startswith("|")), len(lines))
            tables[match[1]] = lines[number:end]
    return tables


def test_every_table_equals_its_csv_file():
    tables = {name: lines for page in RESULTS for name, lines in shown(page.read_text()).items()}
    assert set(tables) == set(TABLES) == {path.name for path in (DOCS / "results").glob("*.csv")}
    for name, lines in tables.items():
        assert lines == table(name), f"{name}: the table should be\n" + "\n".join(table(name))


def test_every_row_of_a_table_with_verdicts_has_one():
    for name, columns in TABLES.items():
        if "verdict" in columns:
            assert all(row["verdict"] for row in read(name)), name


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.name)
def test_results_fit_on_two_screens(page: Path):
    assert len(page.read_text().splitlines()) <= 130


PAGES = sorted([*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")])
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    fenced = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", fenced, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_exists(page):
    text = without_code(page.read_text())
    missing = []
    for target in (one or other for one, other in LINK.findall(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            missing.append(target)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_block_follows_a_list(page: Path):
    """The site would show it as a paragraph of the list's last item."""
    parts = re.split(r"\n\n+", page.read_text())
    pairs = itertools.pairwise(parts)
    after = [code for text, code in pairs if re.search("^- ", text, re.MULTILINE) and re.match(r" {4}\S", code)]
    assert after == []


def test_the_link_check_sees_links_and_images():
    text = 'a [b](c.md "title") ![d](e.png)\n[f]: g.md\n\n    [code](h.md)\n\n```\n[code](i.md)\n```\n[j](#k)'
    assert [one or other for one, other in LINK.findall(without_code(text))] == ["c.md", "e.png", "g.md", "#k"]
