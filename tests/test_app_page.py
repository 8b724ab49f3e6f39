"""The page's events without a browser, and the command that serves the page."""

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import complaint, run_command
from PIL import Image
from test_app import BOX, PICTURE, PIXELS, hole, layer, tiny_restorer

from restoration.app.page import main, page
from restoration.app.steps import PAINT
from restoration.restorer import Restorer


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return tiny_restorer()


def handlers(blocks: Any) -> dict[str, Any]:
    """The functions behind the events, by name."""
    return {event.fn.__name__: event.fn for event in blocks.fns.values()}


def test_a_mistake_is_a_message_and_changes_nothing(restorer: Restorer, tmp_path: Path, monkeypatch):
    gradio = pytest.importorskip("gradio")
    messages: list[str] = []
    monkeypatch.setattr(gradio, "Warning", lambda message, **_: messages.append(message))
    run = handlers(page(restorer, 4, gradio))
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    assert run["on_picture"](str(bad)) == gradio.skip()
    assert run["on_restore"](None, None, None, 1, 1, 0, False) == gradio.skip()
    assert run["on_mask"](str(bad), PICTURE) == gradio.skip()
    assert run["on_damage"](None, "erase", 1.0, 0, True) == gradio.skip()
    (tmp_path / "<b>.png").write_text("no picture")
    assert run["on_mask"](str(tmp_path / "<b>.png"), PICTURE) == gradio.skip()
    assert messages == [
        "This picture cannot be used: not an image, or damaged.",
        "There is no picture yet. Choose one in step 1.",
        "This mask cannot be used: mask bad.png: not an image, or damaged.",
        "There is no picture yet. Choose one in step 1.",
        "This mask cannot be used: mask &lt;b&gt;.png: not an image, or damaged.",
    ]


def test_the_steps_hand_on_what_they_made(restorer: Restorer, tmp_path: Path):
    gradio = pytest.importorskip("gradio")
    run = handlers(page(restorer, 4, gradio))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    clean, current, known, shown = run["on_picture"](str(tmp_path / "a.png"))
    assert clean is current and known is None and np.array_equal(np.asarray(shown), PIXELS)
    damaged, known, shown = run["on_damage"](clean, "erase", 1.0, 2, True)
    assert known.any() and (np.asarray(shown)[known[0].numpy()] == PAINT).all()
    assert run["on_damage"](clean, "erase", 1.0, 2, False)[1] is None
    pair, text, pairs, gallery = run["on_restore"]({"layers": [layer(*BOX)]}, damaged, known, 1, 2, 0, True)
    assert f"{(known | hole(*BOX)).float().mean():.1%} of the picture was marked" in text
    assert len(pairs) == 2 and pair is pairs[0] and gallery.visible
    assert np.array_equal(np.asarray(pair[0]), damaged.pixels.permute(1, 2, 0).numpy())
    assert np.array_equal(np.asarray(run["on_clear"](damaged)[1]), np.asarray(pair[0]))


@pytest.fixture
def served(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that the command serves the page with; nothing is served."""
    gradio = pytest.importorskip("gradio")
    given: dict[str, Any] = {}

    def launch(blocks: Any, **options: Any) -> tuple[None, str, None]:
        given.update(options, blocks=blocks)
        return None, "http://127.0.0.1:7999/", None

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    monkeypatch.setattr(gradio.Blocks, "block_thread", lambda _: None)
    monkeypatch.setattr(Restorer, "load", lambda *_: restorer)
    return given


def test_it_is_served_to_this_machine_only(served: dict[str, Any], capsys, monkeypatch):
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert run_command(main, "port=7999", "max_megapixels=2") == 0
    assert served["server_name"] == "127.0.0.1" and served["share"] is False and served["server_port"] == 7999
    assert served["max_file_size"] == 20_000_000
    blocks = served["blocks"]
    assert blocks.analytics_enabled is False and blocks.default_config is not None
    assert {event.api_visibility for event in blocks.fns.values()} == {"private"}
    assert capsys.readouterr().out == "open http://127.0.0.1:7999/ in a browser; Ctrl-C ends it\n"


def test_a_mistake_of_the_command_is_one_line(monkeypatch, capsys, tmp_path: Path, restorer: Restorer):
    pytest.importorskip("gradio")
    assert run_command(main, "checkpoint=none.ckpt") == 2
    assert complaint(capsys).startswith("no checkpoint at none.ckpt")
    assert run_command(main, "port=0") == 2
    assert "port=0" in complaint(capsys)
    monkeypatch.setattr(Restorer, "load", lambda *_: restorer)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_command(main, f"port={port}") == 2
    assert complaint(capsys) == f"port={port} cannot be used here; give another"


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run_command(main) == 2
    assert complaint(capsys) == "restoration[app] is needed: pip install 'restoration[app]'"
