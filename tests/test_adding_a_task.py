"""``docs/adding-a-task.md`` is a whole task: put into a copy of the project, its code passes its test and checks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.guide import ROOT, Guide, run, tool

GUIDE = Guide.read(ROOT / "docs" / "adding-a-task.md")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the task of the page."""
    folder = tmp_path_factory.mktemp("project")
    GUIDE.apply(folder)
    return folder


def test_a_task_is_five_files_and_three_rows() -> None:
    assert (len(GUIDE.files), len(GUIDE.rows)) == (5, 3)


@pytest.mark.timeout(180)
def test_the_task_answers_by_every_way_in(copy: Path) -> None:
    run(copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gateway/tasks/test_match.py")


def test_the_code_of_the_page_passes_the_checks(copy: Path) -> None:
    files = [str(copy / path) for path in GUIDE.modules]
    run(copy, tool("ruff"), "check", *files)
    run(copy, tool("ruff"), "format", "--check", *files)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_code_of_the_page_is_typed(copy: Path) -> None:
    modules = [path for path in GUIDE.modules if not path.startswith("tests/")]
    run(copy, sys.executable, "-m", "mypy", "--strict", *modules)
