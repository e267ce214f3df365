"""``docs/adding-a-model.md`` is a whole line: put into a copy of the project, it is verified, pulled and served."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.guide import ROOT, Guide, run, tool

GUIDE = Guide.read(ROOT / "docs" / "adding-a-model.md")
PUBLISHER = "published/publish.py"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the line of the page, and what its publisher gives."""
    folder = tmp_path_factory.mktemp("project")
    GUIDE.apply(folder)
    run(folder, sys.executable, PUBLISHER)
    return folder


def test_a_line_is_five_files_and_a_row_in_three_tables() -> None:
    assert len(GUIDE.files.keys() - {PUBLISHER}) == 5
    assert set(GUIDE.rows) == {"models/families.py", "models/catalog/sources.lock", "pyproject.toml"}


def test_the_fixture_of_the_page_is_verified(copy: Path) -> None:
    run(copy, sys.executable, "-m", "models.verify", "tests/parity/tint")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_model_is_pulled_and_answers_as_pytorch_does(copy: Path) -> None:
    run(copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_tint.py")


def test_the_code_of_the_page_passes_the_checks(copy: Path) -> None:
    files = [str(copy / path) for path in GUIDE.modules]
    run(copy, tool("ruff"), "check", *files)
    run(copy, tool("ruff"), "format", "--check", *files)


def test_the_line_keeps_the_contracts_on_imports(copy: Path, tmp_path: Path) -> None:
    run(copy, tool("lint-imports"), "--no-cache")

    contracts = tmp_path / "contracts.toml"
    contracts.write_text((ROOT / "pyproject.toml").read_text())
    with pytest.raises(AssertionError, match=r"models\.tint"):
        run(copy, tool("lint-imports"), "--no-cache", "--config", str(contracts))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_code_of_the_page_is_typed(copy: Path) -> None:
    modules = [path for path in GUIDE.modules if not path.startswith("tests/")]
    run(copy, sys.executable, "-m", "mypy", "--strict", *modules)
