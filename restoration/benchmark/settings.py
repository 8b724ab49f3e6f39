"""How the tables are measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What holds for all tables.

    Attributes:
        device: "cpu" or "cuda".
        precision: as the trainer names it.
        rounds: of each figure.
        limit: seconds that a call may take; what would take longer is derived or left out.
        compile: also times compiled training steps.
        smoke: small sizes and every call once, to see that all runs.
        overrides: of the config, for our backbones.
        runs: folders of the runs whose times to a quality are compared, the reference first.
    """

    device: str
    precision: str
    rounds: int = 5
    limit: float = 60.0
    compile: bool = False
    smoke: bool = False
    overrides: Sequence[str] = ()
    runs: Sequence[Path] = ()

    @property
    def side(self) -> int:
        """Of the images of most tables, pixels."""
        return 32 if self.smoke else 64

    @property
    def pixels(self) -> str:
        return f"{self.side} x {self.side} pixels"

    @property
    def slow(self) -> float:
        """Seconds from which a call is timed once."""
        return 0.0 if self.smoke else self.limit / 2
