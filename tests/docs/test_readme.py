"""README.md: its headline table is that of the results, and its Python example runs."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY, run_command
from PIL import Image

from restoration.train import main as train

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_headline_table_is_that_of_the_results():
    with (ROOT / "docs" / "results" / "main.csv").open(newline="") as file:
        results = {(row["what"], row["nfe"]): row for row in csv.DictReader(file)}
    columns = {"psnr": ".2f", "ssim": ".3f", "frechet": ".1f"}
    table = re.search(r"^\| method \| NFE .*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [line.strip("| ").split(" | ") for line in table[0].strip().splitlines()[2:]]
    assert len(rows) == 5
    for method, nfe, *figures in rows:
        row = results[method, nfe.replace("–", "")]
        assert figures == [format(float(row[name]), form) if row[name] else "–" for name, form in columns.items()]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(train, *TINY, "experiment=blur_erase", "trainer.max_steps=2", "evaluation.nfe=[1]") == 0
    shutil.move("outputs/blur_erase/run", "outputs/blur_erase/first")
    Image.fromarray(np.arange(40 * 24 * 3, dtype=np.uint8).reshape(40, 24, 3)).save("photo.png")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 8
    exec(example, {})
    with Image.open("restored.png") as restored:
        assert restored.size == (24, 40) and restored.mode == "RGB"
