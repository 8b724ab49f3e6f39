"""The page in a real browser without a screen: upload, paint, restore, compare, a bad file; at two widths."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import hostile
import numpy as np
import pytest
import torch
from browser import CHROMIUM, needs_chromium
from PIL import Image

from restoration.data.dead_leaves import dead_leaves
from restoration.restorer import Restorer

pytest.importorskip("gradio", reason="the extra [app] is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.slow, needs_chromium]
PORT = 7990
WAIT = 60_000  # ms, for a machine that is busy


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a small random restorer, served by the command."""
    folder = tmp_path_factory.mktemp("app")
    config = {**hostile.CLEAN}
    state = {f"restorer.{name}": value for name, value in Restorer.build(config, "random").state_dict().items()}
    torch.save({"config": config, "state_dict": state, "images_seen": 1}, folder / "tiny.ckpt")
    command = [sys.executable, "-m", "restoration.app", "checkpoint=tiny.ckpt", f"port={PORT}", "max_megapixels=0.2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment["GRADIO_TEMP_DIR"] = str(folder / "cache")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 90
        while not (found := re.search(r"open (\S+) in a browser", (folder / "log").read_text())):
            assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield found[1]
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(params=[1280, 390])
def opened(address: str, request: pytest.FixtureRequest) -> Iterator["sync_api.Page"]:
    """The page at a width. Requests to other hosts are refused, and there must be none."""
    foreign: list[str] = []
    errors: list[str] = []

    def route(route: "sync_api.Route") -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": request.param, "height": 900})
        page.set_default_timeout(WAIT)
        page.route("**/*", route)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.locator("#editor canvas").first.wait_for()
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= request.param, "it scrolls sideways"
        browser.close()
    assert foreign == [] and errors == []


def upload(page: "sync_api.Page", path: Path) -> None:
    page.locator("#picture input[type=file]").set_input_files(path)


def shows(page: "sync_api.Page", pixels: np.ndarray) -> None:
    """Waits until the canvas has the mean colour of the image at its centre."""
    colour = pixels[pixels.shape[0] // 2 - 8 :, pixels.shape[1] // 2 - 8 :][:16, :16].mean(axis=(0, 1))
    for _ in range(60):
        page.wait_for_timeout(500)
        values = np.asarray(picture_of(page.locator("#editor canvas").first.screenshot()))
        height, width = values.shape[:2]
        seen = values[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8].mean(axis=(0, 1))
        if np.abs(seen - colour).max() < 25:
            return
    raise AssertionError(f"{seen} instead of {colour}")


def picture_of(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content)).convert("RGB")


def paint(page: "sync_api.Page") -> None:
    """A stroke of 80 pixels through the middle of the canvas."""
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    for step in range(9):
        page.mouse.move(x - 40 + 10 * step, y)
    page.mouse.up()
    page.wait_for_timeout(1000)


def test_upload_paint_restore_compare_and_a_bad_file(opened: "sync_api.Page", tmp_path: Path):
    page = opened
    pixels = dead_leaves(np.array([7]), 128, 0)[0][:96]
    Image.fromarray(pixels).save(tmp_path / "leaves.png")
    upload(page, tmp_path / "leaves.png")
    shows(page, pixels)

    paint(page)
    page.get_by_label("Change only the hole").check()
    page.click("#restore")
    text = page.locator("#text")
    sync_api.expect(text).to_contain_text("marked as a hole", timeout=WAIT)
    said = re.fullmatch(
        r"0\.01 megapixels: \d+\.\d s on \w+ \(\d+\.\d s per megapixel\)\. (.+)% of the picture was marked as a hole\.",
        text.inner_text().strip(),
    )
    assert said is not None and 1 < float(said[1]) < 40

    before, after = page.locator("#slider img[data-testid=imageslider-image]").all()
    values = []
    for image in (before, after):
        sync_api.expect(image).to_have_js_property("naturalWidth", 128, timeout=WAIT)
        values.append(np.asarray(picture_of(page.request.get(image.get_attribute("src") or "").body())))
    assert np.array_equal(values[0], pixels)  # exactly the file, whatever the canvas does
    changed = (values[1] != pixels).any(axis=2)
    assert changed.any() and abs(changed.mean() * 100 - float(said[1])) < 2
    assert changed[40:56, 56:72].all() and not changed[:20].any()

    handle = page.get_by_test_id("slider")
    handle.scroll_into_view_if_needed()
    box = page.locator("#slider .icon-wrap").bounding_box()
    assert box is not None
    place = after.evaluate("e => e.style.clipPath")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 80, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    left, moved = (
        float(clip.rpartition(" ")[2].rstrip("%)")) for clip in (place, after.evaluate("e => e.style.clipPath"))
    )
    assert left == 50 and moved < 40

    (tmp_path / "bad.png").write_text("no picture")
    upload(page, tmp_path / "bad.png")
    message = page.locator(".toast-body")
    sync_api.expect(message).to_contain_text("This picture cannot be used: not an image, or damaged.", timeout=WAIT)
    assert message.count() == 1
    assert page.locator("#slider img[data-testid=imageslider-image]").count() == 2  # the result stays
