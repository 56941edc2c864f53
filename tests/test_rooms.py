"""The layout of the package: twelve entries at most, rooms with one face, no circle among them."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import antialiased_zoo as az

PACKAGE = Path(az.__file__).parent
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def imports(room: str) -> Iterator[tuple[str, list[str], str]]:
    """Every import of another room: (file, the path imported below that room, the room)."""
    for file in (PACKAGE / room).rglob("*.py"):
        here = list(file.relative_to(PACKAGE).parent.parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = here[: len(here) - node.level + 1] + (node.module.split(".") if node.module else [])
                if target and target[0] in ROOMS and target[0] != room:
                    yield str(file.relative_to(PACKAGE)), target[1:], target[0]


def test_the_root_has_at_most_twelve_entries() -> None:
    entries = [path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")]
    assert len(entries) <= 12, sorted(entries)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_entered_by_their_face(room: str) -> None:
    assert not [(file, other, below) for file, below, other in imports(room) if below]


def test_there_is_no_circle_among_the_rooms() -> None:
    graph = {room: {other for _, _, other in imports(room)} for room in ROOMS}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


class Imports(ast.NodeVisitor):
    """The relative imports of a file, also those inside functions, but not those for types alone."""

    def __init__(self, file: Path) -> None:
        self.here, self.found = file.relative_to(PACKAGE).parent, set()
        self.visit(ast.parse(file.read_text()))

    def visit_If(self, node: ast.If) -> None:
        for inner in node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else ast.iter_child_nodes(node):
            self.visit(inner)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            base = Path(*self.here.parts[: len(self.here.parts) - node.level + 1], *(node.module or "").split("."))
            self.found |= {Path(f"{base}.py"), *(base / f"{alias.name}.py" for alias in node.names)}


def test_there_is_no_circle_among_the_files() -> None:
    files = {file.relative_to(PACKAGE): Imports(file).found for file in PACKAGE.rglob("*.py")}
    graph = {file: found & set(files) for file, found in files.items()}
    assert sum(map(len, graph.values())) > 500
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_page_says_what_each_room_imports() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| ?(.*) \|$", page, re.MULTILINE)
    stated = {room: set(re.findall(r"`(\w+)`", others)) for room, others in rows}
    graph = {room: {other for _, _, other in imports(room)} for room in ROOMS}
    assert graph.pop("cli") == set(ROOMS) - {"cli"} - stated.pop("cli")  # all but what its row names
    assert stated == graph


@pytest.mark.parametrize("room", ROOMS)
def test_no_name_of_a_face_hides_a_file_of_its_room(room: str) -> None:
    """`import antialiased_zoo.room.name` must give the module of that name."""
    face = __import__(f"antialiased_zoo.{room}", fromlist=["_"])
    files = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    hidden = {name for name in files if hasattr(face, name) and not hasattr(getattr(face, name), "__spec__")}
    assert not hidden


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(az) == sorted(az.__all__)
    assert all(getattr(az, name).__doc__ for name in dir(az))
    assert {"resnet50", "antialias", "plan", "Downsample", "recalibrate", "for_inference"} <= set(dir(az))
    with pytest.raises(AttributeError, match="resnet5"):
        _ = az.resnet5
