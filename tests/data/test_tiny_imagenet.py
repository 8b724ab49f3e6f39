"""Tiny ImageNet: numbering and splits on a small copy of its tree, and the download against a loopback server."""

import copy
import hashlib
import io
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.corruption import Corruption, GaussianBlur
from restoration.data import tiny_imagenet
from restoration.data.download import download
from restoration.data.tiny_imagenet import TinyImageNet, find_or_fetch
from restoration.errors import UserError


def list_splits(folder: Path) -> dict:
    return TinyImageNet(Corruption(GaussianBlur()), root=str(folder.parent)).list_splits()


CLASSES = ["n03", "n01", "n02"]  # not sorted, as in the official file


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L" if shade % 2 else "RGB", (64, 64), shade if shade % 2 else (shade,) * 3).save(file, "JPEG")
    return file.getvalue()


def members(numbers: tuple[int, ...] = (0, 8, 12, 489, 490, 496)) -> dict[str, bytes]:
    files = {"wnids.txt": "\n".join(CLASSES).encode(), "words.txt": b"", "test/images/test_0.JPEG": jpeg(3)}
    for position, wnid in enumerate(CLASSES):
        for number in numbers:
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(40 * position + number % 40)
    files["val/val_annotations.txt"] = b"val_2.JPEG\tn02\t0\t0\t9\t9\nval_10.JPEG\tn03\t0\t0\t9\t9\n"
    files["val/images/val_2.JPEG"], files["val/images/val_10.JPEG"] = jpeg(102), jpeg(110)
    return {f"tiny-imagenet-200/{name}": content for name, content in files.items()}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "tiny-imagenet-200"


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, content in members().items():
            target.writestr(name, content)
    return file.getvalue()


def test_index_label_and_split(tmp_path):
    splits = list_splits(write_tree(tmp_path, members()))
    train = {source.name: source for source in splits["train"]}
    assert len(train) == 3 * 4 and len(splits["selection"]) == 3 * 2
    source = train["train/n02/n02_12.JPEG"]  # n02 is the second class in sorted order
    assert (source.index, source.label) == (500 + 12, 1)
    assert [source.index for source in splits["selection"]] == [490, 496, 990, 996, 1490, 1496]
    assert [(source.name, source.index, source.label) for source in splits["test"]] == [
        ("val/val_2.JPEG", 2, 1),  # by number: 2 before 10
        ("val/val_10.JPEG", 10, 2),
    ]


def test_index_does_not_depend_on_which_parts_are_present(tmp_path):
    whole = list_splits(write_tree(tmp_path / "whole", members()))
    part = list_splits(write_tree(tmp_path / "part", members((8, 496))))
    numbers = {source.name: source.index for split in whole.values() for source in split}
    assert all(source.index == numbers[source.name] for split in part.values() for source in split)
    assert len(part["selection"]) == 3


def test_decoded_splits(tmp_path):
    write_tree(tmp_path, members())
    for size in (64, 32):
        data = TinyImageNet(Corruption(GaussianBlur()), root=str(tmp_path), image_size=size)
        data.prepare_data()
        splits = data.load_splits()
        assert {split: store.images.shape for split, store in splits.items()} == {
            "train": (12, size, size, 3),
            "selection": (6, size, size, 3),
            "test": (2, size, size, 3),
        }
        assert np.abs(splits["test"].images[:, 5, 5].astype(int) - [[102] * 3, [110] * 3]).max() <= 2
        batch = next(data.batches("test"))
        assert batch.index.tolist() == [2, 10] and batch.label.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("removed", "message"),
    [("wnids.txt", "no wnids.txt"), ("train", "no images in train"), ("val", "no images in val/images for the test")],
)
def test_an_incomplete_folder_is_reported(tmp_path, removed, message):
    files = {name: content for name, content in members().items() if f"/{removed}" not in name}
    with pytest.raises(UserError, match=message):
        list_splits(write_tree(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\n\nval_10.JPEG\tn09\t0\n"},
            "line 3: .*n09.* is not an image and a cl",
        ),
        (
            {"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\nval_10.JPEG\n"},
            "annotations.txt, line 2: .val_10.JPEG. is not",
        ),
        ({"val/val_annotations.txt": b"val_2.JPEG\tn02\t0\n"}, "val_annotations.txt has no line for val_10.JPEG"),
        ({"val/val_annotations.txt": b"\xff\xfe\0rubbish"}, r"annotations.txt, line 1: .* is not an image and a class"),
        ({"val/val_annotations.txt": b""}, "val_annotations.txt has no line for val_2.JPEG"),
        ({"val/val_annotations.txt": None}, "val_annotations.txt is missing"),
        ({"wnids.txt": b""}, "no images in train"),
        ({"wnids.txt": b"\xff\xfe\0\n../../x"}, "no images in train"),
    ],
)
def test_a_malformed_set_is_one_line(tmp_path, change, message):
    files = members() | {f"tiny-imagenet-200/{name}": content for name, content in change.items()}
    folder = write_tree(tmp_path, {name: content for name, content in files.items() if content is not None})
    with pytest.raises(UserError, match=message) as raised:
        list_splits(folder)
    assert "\n" not in str(raised.value)


def test_stray_files_are_ignored_and_named(tmp_path, caplog):
    folder = write_tree(tmp_path, members())
    expected = list_splits(folder)
    strays = ["n01_0 (1)", "n01_00", "n01_", "n02_3", "n01_500", "n01_-1", "n01_\u0663", "foo"]
    for name in [*strays, ".n01_1", "._n01_2"]:
        (folder / "train/n01/images" / f"{name}.JPEG").write_bytes(b"")
    (folder / "val/images/._val_2.JPEG").write_bytes(b"\0\5\x16\7")
    with (folder / "val/val_annotations.txt").open("a") as file:
        file.write("\n\n")
    assert list_splits(folder) == expected
    assert "ignored 8 files that are not n01_<number>.JPEG" in caplog.text


@pytest.mark.parametrize("below", ["", "images"])
def test_validation_images_in_class_folders(tmp_path, below):
    folder = write_tree(tmp_path, members())
    expected = list_splits(folder)["test"]
    for number, wnid in ((2, "n02"), (10, "n03")):
        (folder / "val" / wnid / below).mkdir(parents=True)
        (folder / f"val/images/val_{number}.JPEG").rename(folder / "val" / wnid / below / f"val_{number}.JPEG")
    (folder / "val/images").rmdir()
    (folder / "val/val_annotations.txt").unlink()
    found = list_splits(folder)["test"]
    assert [(source.name, source.index, source.label) for source in found] == [
        (source.name, source.index, source.label) for source in expected
    ]


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


def test_an_existing_zip_is_unpacked_without_a_server(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(archive())
    assert len(list_splits(find_or_fetch(tmp_path, url="http://127.0.0.1:9/none"))["test"]) == 2


def test_a_damaged_zip_is_reported_and_leaves_no_folder(tmp_path):
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(archive()[:5000])
    with pytest.raises(UserError, match=r"tiny-imagenet-200\.zip \(5,000 bytes\) is damaged.*remove it"):
        find_or_fetch(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def member(name: str, mode: int = 0, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


INSIDE = "tiny-imagenet-200/"
HOSTILE = {
    "parent": ([member(f"{INSIDE}../../escaped")], "outside its folder"),
    "absolute": ([member("/tmp/escaped")], "outside its folder"),
    "backslash": ([member(f"{INSIDE}..\\escaped")], "outside its folder"),
    "drive": ([member("C:/escaped")], "outside its folder"),
    "dot": ([member(f"{INSIDE}./escaped")], "outside its folder"),
    "parent elsewhere": ([member("other/../../escaped")], "outside its folder"),
    "link": ([member(f"{INSIDE}train", stat.S_IFLNK | 0o777)], "link or device"),
    "pipe": ([member(f"{INSIDE}val", stat.S_IFIFO | 0o777)], "link or device"),
    "device": ([member(f"{INSIDE}val", stat.S_IFCHR | 0o777)], "link or device"),
    "twice": ([member(f"{INSIDE}wnids.txt"), member(f"{INSIDE}wnids.txt")], "two files of one name"),
    "bzip2": ([member(f"{INSIDE}a", method=zipfile.ZIP_BZIP2)], "unusual compression"),
    "control": ([member(f"{INSIDE}../\n\x1b[2J")], "outside its folder"),
    "file as folder": ([member(f"{INSIDE}a"), member(f"{INSIDE}a/b")], "cannot be unpacked"),
    "long name": ([member(INSIDE + "x" * 300)], "cannot be unpacked"),
    "elsewhere": ([member("other/a")], "has no folder"),
}


def unpack_refused(root: Path) -> str:
    """The message; neither the folder nor anything beside it is left."""
    with pytest.raises(UserError) as caught:
        find_or_fetch(root)
    assert {path.name for path in root.iterdir()} <= {"tiny-imagenet-200.zip", ".tiny-imagenet-200.lock"}
    assert [path.name for path in root.parent.iterdir()] == [root.name] and not Path("/tmp/escaped").exists()
    message = str(caught.value)
    assert message.isprintable() and str(root) in message
    return message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(root: Path, kind: str):
    infos, reason = HOSTILE[kind]
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w") as target:
        for name, content in members().items():
            if kind not in ("twice", "elsewhere") or (kind == "twice" and not name.endswith("wnids.txt")):
                target.writestr(name, content)
        for info in infos:
            target.writestr(copy.copy(info), b"x", info.compress_type)
    assert reason in unpack_refused(root)


@pytest.mark.parametrize("kind", ["declared", "real", "hidden", "files", "encrypted"])
def test_a_bomb_is_refused(root: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    """Sizes are small here, with small limits."""
    monkeypatch.setattr(tiny_imagenet, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(tiny_imagenet, "MOST_FILES", 100)
    path = root / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(101 if kind == "files" else 2):
            target.writestr(f"{INSIDE}{number}", bytes(3_000_000 if kind in ("real", "hidden") else 10))
    content = path.read_bytes()
    if kind == "declared":  # the central directory says more than there is
        path.write_bytes(content.replace((10).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    elif kind == "hidden":  # or less
        path.write_bytes(content.replace((3_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    elif kind == "encrypted":
        changed = bytearray(content)
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            changed[content.index(signature) + offset] |= 1
        path.write_bytes(bytes(changed))
    message = unpack_refused(root)
    assert {"hidden": "is damaged", "encrypted": "encrypted"}.get(kind, "far more than Tiny ImageNet") in message
