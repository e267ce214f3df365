"""``docs/adding-a-task.md`` is a whole task: put into a copy of the project, its code passes its test and checks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adding-a-task.md"

_BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {path: code for kind, path, code in _BLOCK.findall(PAGE.read_text("utf-8")) if kind == "python"}
ROWS = {path: code for kind, path, code in _BLOCK.findall(PAGE.read_text("utf-8")) if kind == "diff"}


def with_rows(text: str, rows: str) -> str:
    """``text`` with each line that begins with ``+`` after the line of context above it, which is there once."""
    lines = text.splitlines()
    place = None
    for row in rows.splitlines():
        mark, line = row[:1], row[1:]
        if mark == "+":
            assert place is not None, f"{row!r} follows no line of the file"
            place += 1
            lines.insert(place, line)
        else:
            places = [number for number, known in enumerate(lines) if known == line]
            assert len(places) == 1, f"{line!r} is in the file {len(places)} times"
            (place,) = places
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the task of the page."""
    folder = tmp_path_factory.mktemp("project")
    weights = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for package in ("gateway", "services", "models", "sightline", "tests/support"):
        shutil.copytree(ROOT / package, folder / package, ignore=weights)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, folder / file)

    for path, code in FILES.items():
        assert not (folder / path).exists(), f"{path} is there already"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code)
    for path, rows in ROWS.items():
        (folder / path).write_text(with_rows((folder / path).read_text(), rows))
    return folder


def run(copy: Path, *command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_task_is_five_files_and_three_rows() -> None:
    assert (len(FILES), len(ROWS)) == (5, 3)


@pytest.mark.timeout(180)
def test_the_task_answers_by_every_way_in(copy: Path) -> None:
    run(copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gateway/tasks/test_match.py")


def test_the_code_of_the_page_passes_the_checks(copy: Path) -> None:
    files = [str(copy / path) for path in FILES]
    run(copy, str(Path(sys.executable).with_name("ruff")), "check", *files)
    run(copy, str(Path(sys.executable).with_name("ruff")), "format", "--check", *files)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_code_of_the_page_is_typed(copy: Path) -> None:
    run(copy, sys.executable, "-m", "mypy", "--strict", *(path for path in FILES if not path.startswith("tests/")))
