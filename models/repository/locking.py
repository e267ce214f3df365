"""Locks between processes, so that two pulls at once do one piece of work and not half of two.

A model's name has one lock, which everything takes that writes, removes, shares or makes a version of that name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold ``path`` exclusively, waiting for whoever holds it; the kernel lets go when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def alone_with(root: Path, *names: str) -> Iterator[Path]:
    """Hold the locks of models, and give an empty folder on the repository's own file system: a rename is one step.

    Whoever takes several names takes them here together, in one order, so that no two wait for each other.
    """
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(locked(root / f".{name}.lock"))
        scratch = root / f".{names[0]}.writing"
        shutil.rmtree(scratch, ignore_errors=True)  # left by a writer that was killed
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
