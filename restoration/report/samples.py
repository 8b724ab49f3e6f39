"""The pictures of runs side by side: the same image from each, in as many bytes as there are."""

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from restoration.errors import UserError
from restoration.report.folder import Report
from restoration.report.write import SAMPLES

# Tried in turn: longer side in pixels at most, WebP quality (None: lossless), and how the page puts it.
ENCODINGS = (
    (256, None, "stored without loss"),
    (256, 90, "WebP of quality 90"),
    (192, 80, "at most 192 pixels a side, WebP of quality 80"),
    (128, 75, "at most 128 pixels a side, WebP of quality 75"),
    (64, 60, "at most 64 pixels a side, WebP of quality 60"),
)
PROBE = 16  # pictures that are enough to see that an encoding is far too large
_NAME = re.compile(r"(\d+)_(clean|degraded|nfe(\d+))\.png")


class Pictures:
    """Pictures of several runs, each different one kept once.

    `table` has one entry for each image: `label`, `clean`, and `runs`: number of the run -> `degraded`, `nfe` and
    `psnr`, the latter two by NFE. Pictures are numbers of `images`. An image is the same in two runs if its index and
    its clean pixels are.
    """

    def __init__(self, reports: Sequence[Report]) -> None:
        self.images: list[Image.Image] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for number, report in enumerate(reports):
            for index, kinds in sorted(_files(report).items()):
                if not {"clean", "degraded"} < kinds.keys():
                    continue
                clean = self._add(kinds.pop("clean"))
                entry = found.setdefault((index, clean), {"label": f"image {index}", "clean": clean, "runs": {}})
                nfe = {name.removeprefix("nfe"): self._add(path) for name, path in kinds.items() if name[:3] == "nfe"}
                psnr = {steps: report.per_image(int(steps)).get(index, (None,))[0] for steps in nfe}
                shown = {steps: None if value is None else f"{value:.2f} dB" for steps, value in psnr.items()}
                entry["runs"][number] = {"degraded": self._add(kinds["degraded"]), "nfe": nfe, "psnr": shown}
        self.table = list(found.values())

    def _add(self, path: Path) -> int:
        try:
            image = Image.open(path).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"{path} is no picture, or damaged; evaluate the run again") from error
        key = (image.size, image.tobytes())
        if key not in self._numbers:
            self._numbers[key] = len(self.images)
            self.images.append(image)
        return self._numbers[key]

    def encode(self, limit: int) -> tuple[list[str], str]:
        """The images as data URIs of together at most `limit` characters, and how they are stored, in words.

        Raises:
            UserError: they are too many for the limit.
        """
        for side, quality, how in ENCODINGS:
            probe = [len(_encode(image, side, quality)) for image in self.images[:: len(self.images) // PROBE or 1]]
            if probe and sum(probe) / len(probe) * len(self.images) > 1.2 * limit:
                continue
            encoded = [_encode(image, side, quality) for image in self.images]
            if sum(map(len, encoded)) <= limit:
                return encoded, how
        raise UserError(f"the {len(self.images)} pictures of these runs do not fit into one page; give fewer runs")


def _files(report: Report) -> dict[int, dict[str, Path]]:
    """Image index -> kind -> path, of the NFE that the report is about, ascending."""
    nfe = {str(point["nfe"]) for point in report.metrics.get("by_nfe") or []}
    found: dict[int, dict[str, Path]] = {}
    named = ((path, _NAME.fullmatch(path.name)) for path in (report.folder / SAMPLES).glob("*.png"))
    for path, match in sorted(((p, m) for p, m in named if m), key=lambda item: int(item[1][3] or 0)):
        if match[3] is None or match[3] in nfe:
            found.setdefault(int(match[1]), {})[match[2]] = path
    return found


def _encode(image: Image.Image, side: int, quality: int | None) -> str:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    file = BytesIO()
    if quality is None:
        image.save(file, "WEBP", lossless=True, quality=50, method=2)  # quality and method: effort
    else:
        image.save(file, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
