"""A guide of ``docs/`` as what it does to the project: the files that it adds, and the rows that it changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Guide:
    """``files``: code by path. ``rows``: by the path of a file that is there, what :func:`with_rows` does to it."""

    files: dict[str, str]
    rows: dict[str, str]

    @staticmethod
    def read(page: Path) -> Guide:
        """Every block of a page whose first line is a comment that names a file."""
        blocks = _BLOCK.findall(page.read_text("utf-8"))
        return Guide(
            {path: code for kind, path, code in blocks if kind != "diff"},
            {path: rows for kind, path, rows in blocks if kind == "diff"},
        )

    @property
    def modules(self) -> list[str]:
        """The paths of its Python files."""
        return [path for path in self.files if path.endswith(".py")]

    def apply(self, folder: Path) -> None:
        """Copy the project to ``folder``, without weights, and do what the page does."""
        weights = shutil.ignore_patterns("__pycache__", "*.safetensors")
        for package in ("gateway", "services", "models", "sightline", "tests/support"):
            shutil.copytree(ROOT / package, folder / package, ignore=weights)
        for file in ("pyproject.toml", "tests/conftest.py"):
            shutil.copy(ROOT / file, folder / file)

        for path, code in self.files.items():
            assert not (folder / path).exists(), f"{path} is there already"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(code)
        for path, rows in self.rows.items():
            (folder / path).write_text(with_rows((folder / path).read_text(), rows))


def with_rows(text: str, rows: str) -> str:
    """``text`` with each line that begins with ``+`` after the line above it, and without those that begin with ``-``.

    Every other line is context, which like a line to be removed is there once.
    """
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
            if mark == "-":
                del lines[place]
                place -= 1
    return "\n".join(lines) + "\n"


def run(copy: Path, *command: str) -> None:
    """Run ``command`` in a copy of the project, with its code and not this checkout's; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))
