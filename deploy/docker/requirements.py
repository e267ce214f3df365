"""``python requirements.py EXTRA...``: the packages that pyproject.toml names, those of the extras included."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    # PyTorch is installed before everything else, and only where it is needed.
    names = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    print("\n".join(name for name in names if not name.startswith("torch>=")))


if __name__ == "__main__":
    main(sys.argv[1:])
