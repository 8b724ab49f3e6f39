"""Archives of Tiny ImageNet: fetched, unpacked, damaged, hostile."""

import copy
import stat
import zipfile
from pathlib import Path

import pytest
from tiny_imagenet_files import archive, list_splits, members

from restoration.data import tiny_imagenet
from restoration.data.tiny_imagenet import find_or_fetch
from restoration.errors import UserError


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
