"""Memory of restoring large images: bytes per pixel, measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# The field costs nothing, so that what is measured belongs to the image and not to the network.
PROGRAM = """
import resource, sys
from pathlib import Path
from untouched import Noisy
from restoration.restore import Settings, Task, restore_pictures
from restoration.sampler import Exponential
restorer = Noisy()
restorer.sampler = Exponential()
source, nfe = Path(sys.argv[1]), int(sys.argv[2])
assert restore_pictures(restorer, [Task(source, source.name, source.with_suffix(".out.png"))], Settings(nfe)) == {}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(source: Path, nfe: int) -> int:
    path = os.pathsep.join(str(Path(__file__).parents[level]) for level in (1, 2))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(source), str(nfe)]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit")
@pytest.mark.parametrize("nfe, bytes_per_pixel", [(1, 70), (8, 140)])
def test_large_images_take_few_bytes_per_pixel(tmp_path: Path, nfe: int, bytes_per_pixel: int):
    """A float32 RGB image takes 12 bytes per pixel. Features are not kept at either size."""
    peaks = []
    for width, height in ((2000, 2000), (4000, 3000)):
        Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(tmp_path / f"{width}.png")
        peaks.append(peak(tmp_path / f"{width}.png", nfe))
    measured = (peaks[1] - peaks[0]) / 8e6
    print(f"nfe={nfe}: {measured:.0f} bytes per pixel")
    assert measured <= bytes_per_pixel
