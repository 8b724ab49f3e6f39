"""Downloads, against a loopback server."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tiny_imagenet_files import archive, list_splits

from restoration.data.download import download
from restoration.data.tiny_imagenet import find_or_fetch
from restoration.errors import UserError


class Server:
    """Serves one file on the loopback, with faults on request. Records the Range header of each request."""

    def __init__(self, content: bytes, ranges: bool = True, break_after: int | None = None, status: int = 200):
        requests = self.requests = []
        state = {"breaks": break_after}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                requests.append(asked)
                if status != 200:
                    return self.send_error(status)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
                if start >= len(content):
                    return self.send_error(416)
                self.send_response(206 if asked and ranges else 200)
                if asked and ranges:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = len(content) if state["breaks"] is None else start + state["breaks"]
                state["breaks"] = None
                self.wfile.write(content[start:end])

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.zip"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def local_network(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("restoration.data.download.PAUSE", 0.01)
    monkeypatch.setattr("restoration.data.download.TIMEOUT", 5)


def expected(content: bytes) -> dict:
    return {"size": len(content), "md5": hashlib.md5(content).hexdigest()}


CONTENT = np.random.default_rng(0).bytes(700_000)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(tmp_path, ranges):
    with Server(CONTENT, ranges=ranges, break_after=300_000) as server:
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))
    assert server.requests == [None, "bytes=300000-"]
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]


def test_the_part_of_an_earlier_run_is_used(tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:650_000])
    with Server(CONTENT) as server:
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))
    assert server.requests == ["bytes=650000-"]
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_wrong_file_is_never_renamed_to_the_target(tmp_path):
    (tmp_path / "file.zip.part").write_bytes(b"something else")
    with Server(CONTENT) as server:
        with pytest.raises(OSError, match="not the expected file .MD5"):
            download(server.url, tmp_path / "file.zip", **expected(CONTENT))
        assert list(tmp_path.iterdir()) == []  # otherwise the next attempt would fail too
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))


@pytest.mark.parametrize("length", [600_000, 800_000])
def test_a_file_of_another_length_is_an_error(tmp_path, length):
    other = (CONTENT + CONTENT)[:length]
    with Server(other) as server, pytest.raises(OSError, match="not the expected file|answered 416"):
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_download_says_what_was_missing_and_what_to_do(tmp_path):
    with Server(CONTENT, status=403) as server, pytest.raises(UserError) as raised:
        find_or_fetch(tmp_path, url=server.url)
    message = str(raised.value)
    for part in (
        str(tmp_path / "tiny-imagenet-200"),
        "answered 403",
        f"curl -L -C - -o {tmp_path}",
        "data=dead_leaves",
    ):
        assert part in message
    assert "\n" not in message
    assert server.requests == [None]  # no second attempt


def test_an_unreachable_server_is_an_error(tmp_path):
    with Server(CONTENT) as server:
        pass
    with pytest.raises(OSError, match="could not be downloaded"):
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))
    with Server(CONTENT, status=503) as server, pytest.raises(OSError, match="could not be downloaded .Service"):
        download(server.url, tmp_path / "file.zip", **expected(CONTENT))
    assert len(server.requests) == 3


def test_fetched_and_unpacked(tmp_path):
    content = archive()
    with Server(content) as server:
        folder = find_or_fetch(tmp_path, server.url, len(content), hashlib.md5(content).hexdigest())
        find_or_fetch(tmp_path, server.url, len(content), "not used: the folder exists")
    assert len(server.requests) == 1
    assert sum(map(len, list_splits(folder).values())) == 20
    assert not (folder / "test").exists()
