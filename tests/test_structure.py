"""The code has no import circle: neither between files nor between rooms, whatever an import hides in."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("sightline", "gateway", "services", "models")

Graph = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module of ours by another; ``typing_only`` where it stands under ``TYPE_CHECKING``."""

    importer: str
    imported: str
    typing_only: bool


@cache
def files() -> dict[str, Path]:
    """Every module by name; a package is its ``__init__``."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path) -> Iterator[Import]:
    """Every import in a file, those inside functions and under ``TYPE_CHECKING`` too."""
    tree = ast.parse(path.read_text("utf-8"))
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    guarded = {id(inner) for guard in guards for statement in guard.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            target = name if name in files() else name.rpartition(".")[0]
            if target in files() and target != module:
                yield Import(module, target, id(node) in guarded)


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for module, path in files().items() for found in imports_of(module, path))


def room(module: str) -> str:
    """The package or module at the second level: ``services.jobs``, ``gateway.app``."""
    return ".".join(module.split(".")[:2])


def graph(*, rooms: bool, typing_too: bool) -> Graph:
    edges: dict[str, set[str]] = {}
    for one in imports():
        ends = (room(one.importer), room(one.imported)) if rooms else (one.importer, one.imported)
        if ends[0] != ends[1] and (typing_too or not one.typing_only):
            edges.setdefault(ends[0], set()).add(ends[1])
            edges.setdefault(ends[1], set())
    return edges


def circles(edges: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other, which is Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in edges[node]:
            if following not in index:
                visit(following)
            if following in stack:
                low[node] = min(low[node], low[following])
        if low[node] == index[node]:
            place = stack.index(node)
            group, stack[place:] = stack[place:], []
            if len(group) > 1:
                found.append(sorted(group))

    for node in edges:
        if node not in index:
            visit(node)
    return sorted(found)


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    lines = (
        "from typing import TYPE_CHECKING",
        "import services.errors",
        "if TYPE_CHECKING:",
        "    from services import settings",
        "def late():",
        "    from services.jobs.kind import JobKind",
    )
    file.write_text("\n".join(lines))
    assert set(imports_of("some", file)) == {
        Import("some", "services.errors", typing_only=False),
        Import("some", "services.settings", typing_only=True),
        Import("some", "services.jobs.kind", typing_only=False),
    }


@pytest.mark.parametrize("typing_too", [False, True], ids=["run time", "types too"])
def test_no_file_imports_itself_by_way_of_others(typing_too: bool) -> None:
    assert circles(graph(rooms=False, typing_too=typing_too)) == []


@pytest.mark.parametrize("floor", ["sightline", "gateway", "services"])
def test_no_room_imports_itself_by_way_of_others(floor: str) -> None:
    edges = graph(rooms=True, typing_too=True)
    assert [group for group in circles(edges) if group[0].startswith(floor)] == []
