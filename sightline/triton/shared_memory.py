"""Regions of shared memory that Triton's Python backend left behind when one of its processes was killed.

A region is a file in ``/dev/shm`` that its processes map. One that belongs to this user and that no process maps any
more is nobody's, however it was left: by a killed model of a living server as well as by a dead server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

PREFIXES = ("sightline_triton_", "triton_python_backend_shm_region_")
"""How the platform's servers name theirs, and how others do that were told nothing."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 where POSIX keeps it
FRESH_SECONDS = 5.0
"""Between a region's making and its mapping pass microseconds; this is on the safe side."""


def clean(
    prefixes: Iterable[str] = PREFIXES,
    folder: Path = SHARED_MEMORY,
    fresh: float = FRESH_SECONDS,
) -> list[str]:
    """Remove what nobody maps and was not made in the last ``fresh`` seconds; the names that were removed."""
    found = [path for path in _listed(folder) if path.name.startswith(tuple(prefixes))]
    candidates = [path for path in found if _is_old_and_ours(path, fresh)]
    if not candidates:
        return []

    used = _mapped(folder)
    removed = []
    for path in candidates:
        if path.name not in used:
            path.unlink(missing_ok=True)
            removed.append(path.name)

    return sorted(removed)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_old_and_ours(path: Path, fresh: float) -> bool:
    try:
        info = path.lstat()
    except OSError:
        return False
    return info.st_uid == os.getuid() and time.time() - info.st_ctime >= fresh


def _mapped(folder: Path) -> set[str]:
    """Names of files of ``folder`` that a process maps or holds open. Those of this user can all be looked at."""
    used: set[str] = set()
    start = f"{folder}/"
    for process in _listed(Path("/proc")):
        if not process.name.isdigit():
            continue
        try:
            lines = (process / "maps").read_text(errors="replace").splitlines()
        except OSError:  # another user's, or gone
            continue
        used.update(line.partition(start)[2].removesuffix(" (deleted)") for line in lines if start in line)
    return used
