"""A room imports only from rooms to its left."""

import ast
from pathlib import Path

import pytest

import restoration

ROOMS = [
    "errors",
    "arguments",
    "trust",
    "keyed",
    "batch",
    "weights_file",
    "checkpoint_file",
    "picture",
    "corruption",
    "data",
    "estimator",
    "backbone",
    "classifier",
    "flow",
    "sampler",
    "hub",
    "restorer",
    "spandrel",
    "objective",
    "metrics",
    "training",
    "callbacks",
    "report",
    "run",
    "compare",
    "dashboard",
    "tune",
    "evaluate",
    "restore",
    "export",
    "app",
    "benchmark",
    "pretrain",
    "train",
]
PACKAGE = Path(restoration.__file__).parent


def imported_modules(source: str) -> set[str]:
    """Full names of the project's modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            names |= {f"restoration.{alias.name}" for alias in node.names} if module == "restoration" else {module}
    return {name for name in names if name.startswith("restoration.")}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_room_has_its_place():
    assert {room(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_left(path):
    place = ROOMS.index(room(path))
    wrong = [name for name in imported_modules(path.read_text()) if ROOMS.index(name.split(".")[1]) > place]
    assert wrong == []


def test_no_file_imports_itself_in_a_circle():
    names = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = imported_modules(path.read_text())

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above[above.index(name) :], name])
        for further in names.get(name, ()):
            visit(further, (*above, name))

    for name in names:
        visit(name, ())


def test_the_reader_sees_every_kind_of_import():
    source = (
        "import restoration.keyed\nfrom restoration import batch\ndef f():\n    from restoration.flow.path import x\n"
    )
    assert imported_modules(source) == {"restoration.keyed", "restoration.batch", "restoration.flow.path"}


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports from the second."""
    pairs = {(room(path), name.split(".")[1]) for path in FILES for name in imported_modules(path.read_text())}
    return {(source, target) for source, target in pairs if source != target}


def test_rooms_and_arrows_do_not_multiply():
    """Version 0.1 had 29 rooms and 93 arrows. A new import across rooms is a decision: change the number with it."""
    assert (len(ROOMS), len(arrows())) <= (34, 153)
