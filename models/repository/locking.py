"""Locks between processes, so that two pulls at once do one piece of work and not half of two.

A model's name has one lock, which everything takes that makes, writes, removes or shares a model of that name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from models.errors import ModelError

_PAUSE = 0.02


class Busy(ModelError):
    """Another holds the lock for longer than the caller would wait."""


@contextmanager
def locked(path: Path, wait: float | None = None) -> Iterator[None]:
    """Hold ``path`` exclusively, waiting for whoever holds it; the kernel lets go when a process dies.

    ``wait``: seconds at most, as long as it takes when absent. Raises :class:`Busy`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    try:
        if wait is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            _try_for(handle, path, wait)
        yield
    finally:
        os.close(handle)


@contextmanager
def alone_with(root: Path, *names: str, wait: float | None = None) -> Iterator[Path]:
    """Hold the locks of models, and give an empty folder on the repository's own file system: a rename is one step.

    Whoever needs several names takes them here together, in one order, so that no two wait for each other. Raises
    :class:`Busy`.
    """
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(locked(root / f".{name}.lock", wait))

        scratch = root / f".{names[0]}.writing"
        shutil.rmtree(scratch, ignore_errors=True)  # left by a writer that was killed
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _try_for(handle: int, path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise Busy(f"another process works on {path.name.strip('.')}", "try again in a minute") from None
            time.sleep(_PAUSE)
