"""What ``import sightline`` offers."""

from __future__ import annotations

import subprocess
import sys

import sightline


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert sightline.__all__ == sorted(sightline.__all__)
    for name in sightline.__all__:
        assert getattr(sightline, name).__name__ == name
    assert set(sightline.__all__) <= set(dir(sightline))


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, sightline; print([m for m in ('httpx', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    from importlib.resources import files

    assert (files("sightline") / "py.typed").is_file()
