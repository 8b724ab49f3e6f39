"""The few endpoints of the Hugging Face Hub that uploading and downloading one file use, on this machine."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_of_the_test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`repos` holds each repository's files; `log` the requests, with the repository's name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.log: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:  # noqa: N802
        self.server.log.append(f"{self.command} {self.path}")
        repo, _, place = self.path[1:].partition("/resolve/")
        revision, _, name = place.partition("/")
        if repo not in self.server.repos:
            self.answer(401, X_Error_Code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif name not in self.server.repos[repo]:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            content = self.server.repos[repo][name]
            tag = hashlib.sha256(content).hexdigest()
            self.answer(200, content, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:  # noqa: N802
        self.server.log.append(f"POST {self.path}")
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, json.dumps({"error": "Invalid credentials"}).encode())
        sent = [json.loads(line) for line in lines]
        result: dict = {}
        if self.path == "/api/repos/create":
            repo = f"{sent[0]['organization'] or 'me'}/{sent[0]['name']}"
            self.server.repos.setdefault(repo, {})
            result = {"url": f"{self.server.address}/{repo}"}
        elif self.path.endswith("/preupload/main"):
            result = {"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in sent[0]["files"]]}
        elif self.path.endswith("/commit/main"):
            repo = "/".join(self.path.split("/")[3:5])
            files = [line["value"] for line in sent if line["key"] == "file"]
            self.server.repos[repo] |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            result = {"commitUrl": f"{self.server.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
        self.answer(200, json.dumps(result).encode(), Content_Type="application/json")


@contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
