"""A page of tables in Markdown, and the same figures as JSON."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """A table.

    Attributes:
        title: its heading.
        text: what was measured, above the table.
        rows: cells by column; a number, a text, or None for what was not measured. "derived" lists the columns whose
            figure was computed from others, shown with ≈.
    """

    title: str
    text: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def numbers(self) -> Iterator[float]:
        for row in self.rows:
            yield from (cell for cell in row.values() if isinstance(cell, int | float))

    def markdown(self) -> str:
        columns = list(dict.fromkeys(name for row in self.rows for name in row if name != "derived"))
        lines = [" | ".join(columns), " | ".join("---" if column == columns[0] else "---:" for column in columns)]
        for row in self.rows:
            cells = [shown(row.get(name)) for name in columns]
            derived = row.get("derived", [])
            lines.append(" | ".join("≈ " * (name in derived) + cell for name, cell in zip(columns, cells, strict=True)))
        return "\n".join([f"## {self.title}", "", self.text, "", *(f"| {line} |" for line in lines)])


def shown(cell: Any) -> str:
    """Numbers with three significant digits."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if cell == 0 or not math.isfinite(cell):
        return f"{cell:g}"
    cell = float(f"{cell:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(cell))))
    return f"{cell:,.{digits}f}" if abs(cell) >= 0.001 else f"{cell:.1e}"


def read(path: Path) -> dict[str, Figures]:
    """The tables of an earlier page, by name, from the JSON beside it."""
    file = path.with_suffix(".json")
    if not file.is_file():
        return {}
    return {name: Figures(**table) for name, table in json.loads(file.read_text())["tables"].items()}


def write(path: Path, introduction: str, facts: dict[str, Any], tables: dict[str, Figures]) -> None:
    """The page, and beside it the JSON with `facts`, what the figures were measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [introduction, *(table.markdown() for table in tables.values())]
    path.write_text("\n\n".join(parts) + "\n")
    content = {"facts": facts, "tables": {name: asdict(table) for name, table in tables.items()}}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
