"""The site: built strictly, every link inside it leads somewhere, and nothing is loaded from elsewhere."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, needs_chromium

for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(package, reason="the site needs the extra [docs]: pip install 'restoration[docs]'")

pytestmark = pytest.mark.slow  # .ci/run has `make docs`, which is strict too

ROOT = Path(__file__).parents[2]
BUILD = """
import json, logging, sys
from mkdocs.commands.build import build
from mkdocs.config import load_config

logging.basicConfig(level=logging.WARNING)
build(load_config(sys.argv[1], site_dir=sys.argv[2], strict=True))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
REFERENCE = ("backbone", "callbacks", "corruption", "estimator", "flow", "objective", "sampler")


def build(config: Path, folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-c", BUILD, str(config), str(folder)]
    return subprocess.run(command, cwd=config.parent, env=environment, capture_output=True, text=True)


class Links(HTMLParser):
    """What a page leads to (`links`), what it loads (`loads`), and the names of its parts (`ids`)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        if tag == "a" and given.get("href"):
            self.links.add(given["href"] or "")
        loaded = given.get("src") or (given.get("href") if tag == "link" else None)
        self.loads |= {loaded} if loaded else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The folder of the site, and the packages that were imported to build it."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder, set(json.loads(built.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def pages(site: tuple[Path, set[str]]) -> dict[Path, Links]:
    return {path: Links(path.read_text()) for path in site[0].rglob("*.html") if path.name != "404.html"}


def test_every_link_inside_the_site_leads_somewhere(pages: dict[Path, Links]):
    assert len(pages) > 25
    dead = []
    for path, page in pages.items():
        for target in page.links | page.loads:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[file].ids if file in pages else set()
            if not file.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                dead.append(f"{path.name}: {target}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Links]):
    assert {target for page in pages.values() for target in page.loads if urlsplit(target).netloc} == set()


def test_the_reference_has_every_public_name_and_imports_no_code(site: tuple[Path, set[str]], pages: dict[Path, Links]):
    ids = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "reference"))
    rooms = [importlib.import_module(f"restoration.{room}") for room in REFERENCE]
    public = {f"{room.__name__}.{name}" for room in rooms for name in room.__all__ if getattr(room, name).__doc__}
    assert len(public) > 50 and public - ids == {"restoration.corruption.Parameters"}  # an alias of dict
    assert "restoration.restorer.Restorer.restore_image" in ids
    assert {"torch", "lightning", "restoration"} & site[1] == set()


def test_commands_are_shown_as_code(site: tuple[Path, set[str]]):
    """Markdown that a code host shows as code, such as a block in a list, can be a paragraph on a site."""
    for path in site[0].rglob("*.html"):
        found = re.findall(r"<p>((?:python -m|restoration-|make |```|[|] ).*)", path.read_text())
        assert found == [], path.name


def test_a_dead_link_fails(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site.py").write_text((ROOT / "docs" / "site.py").read_text())
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        (tmp_path / name).write_text("# Page\n")
    nav = "nav: [index.md, changelog.md, contributing.md, page.md]"
    (tmp_path / "mkdocs.yml").write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nplugins: [search]\n{nav}\n")
    good = "# Page\n\n[a](docs/page.md#part) [b](CHANGELOG.md)\n"
    (tmp_path / "README.md").write_text(good)
    (tmp_path / "docs" / "page.md").write_text("# Page\n\n## Part\n\n[c](../CHANGELOG.md)\n")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode == 0, built.stderr
    for dead, complaint in (("page.md#no", "'page.md#no'"), ("nowhere.md", "'nowhere.md'")):
        (tmp_path / "README.md").write_text(f"{good}[d](docs/{dead})\n")
        built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
        assert built.returncode != 0 and complaint in built.stderr + built.stdout


@pytest.fixture
def address(site: tuple[Path, set[str]]) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site[0])))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser(address: str, width: int, scheme: str):
    """No error, no other server, no sideways scrolling; the search finds a page."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: request.url.startswith((address, "data:")) or said.append(request.url))
        for name in ("index", "tutorial", "extending", "results", "reference/corruption", "reference/metrics"):
            page.goto(f"{address}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.goto(f"{address}/index.html?q=pull-push")
        page.locator(".md-search-result__link", has_text="Estimator").first.wait_for()
        browser.close()
    assert said == []
