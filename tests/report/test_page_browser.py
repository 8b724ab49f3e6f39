"""The page of several runs in a real browser without a screen: sliders by keyboard, at two widths."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, needs_chromium
from runs import write_run

from restoration.report.page import page as page_of

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    runs = [write_run(folder / name, name, gain, seed=int(gain)) for name, gain in (("first", 3.0), ("second", 4.0))]
    path = folder / "page.html"
    path.write_text(page_of(runs))
    return path


@pytest.fixture(params=[1280, 390])
def opened(file: Path, request: pytest.FixtureRequest) -> Iterator["sync_api.Page"]:
    """The page at a width, dark at the smaller one. Nothing may be loaded beside it, or said on the console."""
    loaded: list[str] = []
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        scheme = "dark" if request.param == 390 else "light"
        page = browser.new_page(viewport={"width": request.param, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("request", lambda request: loaded.append(request.url[:40]))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= request.param, "it scrolls sideways"
        browser.close()
    assert said == []
    assert loaded == [file.as_uri()[:40]]


def sources(page: "sync_api.Page") -> list[list[str]]:
    """Of each run's picture: after, before."""
    return page.evaluate(
        "[...document.querySelectorAll('.frame')].map((frame) => [...frame.children].map((image) => image.src))"
    )


def test_the_sliders_work_by_keyboard(opened: "sync_api.Page"):
    page = opened
    first, second = sources(page)
    assert first[0] != second[0] and first[1] == second[1] and first[0] != first[1]
    assert page.locator(".shown").all_inner_texts()[1].startswith("degraded | restored, 1 NFE, ")

    evaluations = page.get_by_label("Evaluations")
    evaluations.focus()
    page.keyboard.press("ArrowRight")
    assert evaluations.get_attribute("aria-valuetext") == "8 NFE"
    changed = sources(page)
    assert changed[0][0] != first[0] and changed[0][1] == first[1]
    assert page.locator(".frame img").nth(0).get_attribute("alt") == "restored by first at 8 NFE"

    page.get_by_label("Left of the line").select_option(label="restored by 1: first")
    assert sources(page)[1] == [changed[1][0], changed[0][0]]

    cut = page.get_by_label("Before and after")
    cut.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert cut.get_attribute("aria-valuetext") == "45 %"
    box, line = (
        page.evaluate(f"parseFloat(getComputedStyle(document.querySelector('.frame'){which}).{what})")
        for which, what in (("", "width"), (", '::after'", "left"))
    )
    assert line == pytest.approx(0.45 * box, abs=1)


def test_zoom_and_pictures(opened: "sync_api.Page"):
    page = opened
    view = page.locator(".view").first
    whole = view.evaluate("(view) => [view.clientWidth, view.clientHeight]")
    page.get_by_label("Zoom").focus()
    page.keyboard.press("ArrowRight")
    size = "(view) => [view.scrollWidth, view.scrollHeight, view.clientWidth, view.clientHeight]"
    assert view.evaluate(size) == pytest.approx([2 * whole[0], 2 * whole[1], *whole], abs=40)  # scroll bars

    view.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelectorAll('.view')[1].scrollTop > 0")
    tops = page.evaluate("[...document.querySelectorAll('.view')].map((view) => view.scrollTop)")
    assert tops[0] == tops[1] > 0, "zoomed pictures scroll together"

    before = sources(page)
    page.get_by_role("radio", name="image 100").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="image 101").is_checked()
    after = sources(page)
    assert all(old[0] != new[0] and old[1] != new[1] for old, new in zip(before, after, strict=True))


def test_without_a_mouse_everything_is_reached(opened: "sync_api.Page"):
    """Tab goes through the form in its order; each control has a name."""
    page = opened
    page.get_by_role("radio", name="image 100").focus()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached == ["left", "cut", "step", "zoom", "view"]
    assert page.get_by_role("slider").count() == 3
    assert page.get_by_role("img", name="PSNR (dB), higher is better").count() >= 1
