"""What an offline run of W&B holds, read from its .wandb file: W&B's records in blocks of LevelDB's log format."""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7  # bytes; each piece of a record has checksum, length and kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Record]:
    """The records, in the order they were written. A file that ends within one is an error."""
    content = path.read_bytes()
    assert content[:4] == b":W&B", "no file of W&B"
    place, whole = HEADER, b""
    while place < len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # the end of a block is filled with zeros
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        whole = (whole if kind in (MIDDLE, LAST) else b"") + content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record
    assert place == len(content), "the file is cut"


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Name -> value; a picture is a dict of what W&B knows of it."""
    found: dict[str, Any] = {}
    for item in items:
        *above, last = item.nested_key or [item.key]
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return found


@dataclass
class OfflineRun:
    """What a user sees of a run: its config, and the rows of its history. `files` is where its pictures lie."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    group: str = ""
    name: str = ""
    id: str = ""
    files: Path = Path()

    @classmethod
    def read(cls, folder: Path) -> "OfflineRun":
        """Of the only run in a run folder."""
        (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        run = cls(files=path.parent / "files")
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run.group, run.name, run.id = record.run.run_group, record.run.display_name, record.run.run_id
                run.config |= values(record.run.config.update)
            elif kind == "config":
                run.config |= values(record.config.update)
            elif kind == "history":
                run.history.append(values(record.history.item))
        return run

    @property
    def keys(self) -> set[str]:
        return {key for row in self.history for key in row}

    def rows(self, key: str) -> list[dict[str, Any]]:
        return [row for row in self.history if key in row]
