"""What the documentation names is there: files, folders, modules that are run."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("models/**/*.md")]
)

_QUOTED = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+/?")
_PYTHON = re.compile(r"[a-z_]+\.py")
_RUN = re.compile(r"python3? -m ([a-z_0-9]+(?:\.[a-z_0-9]+)*)")


MADE = {"deploy/compose/secrets"}
"""What a command makes that the page tells of."""


@cache
def present() -> frozenset[str]:
    """Every file and folder of the checkout, but hidden ones."""
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        here = Path(folder).relative_to(ROOT)
        found |= {str(here / name) for name in (*folders, *files)}
    return frozenset(found)


def missing(page: Path) -> list[str]:
    """What a page names of this repository that is not there."""
    text, there = page.read_text(encoding="utf-8"), present()
    names = {Path(path).name for path in there}
    found = []
    for quoted in _QUOTED.findall(text):
        path = quoted.removeprefix("./").rstrip("/")
        if _PATH.fullmatch(quoted) and path.partition("/")[0] in there:
            if path not in there and not path.startswith(tuple(MADE)):
                found.append(quoted)
        elif _PYTHON.fullmatch(quoted) and quoted not in names:
            found.append(quoted)
    for module in _RUN.findall(text):
        path = module.replace(".", "/")
        if path.partition("/")[0] in there and not {f"{path}.py", f"{path}/__main__.py"} & there:
            found.append(f"python -m {module}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert not (gone := missing(page)), f"{page.relative_to(ROOT)} names what is gone: {', '.join(gone)}"


def test_a_name_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`services/settings.py`, `services/gone.py`, `gone.py`, `models/nowhere/`, python -m speed.gone")
    assert missing(page) == ["services/gone.py", "gone.py", "models/nowhere/", "python -m speed.gone"]
