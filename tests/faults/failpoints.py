"""Loaded by workers under test: stops a job at a chosen place, once, until it is told to go on or is killed.

The harness writes the name of a place into ``armed`` in the folder ``failpoints`` of the data directory. The first
job that comes there writes ``hit`` (its process id) and waits for ``go``. Places: ``step`` (in the handler),
``checkpoint`` (everything written, nothing committed), ``publish`` (the result about to be committed) and ``ack``
(the result committed, the message not acknowledged).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from services.jobs import leases
from services.jobs.context import JobContext
from services.settings import Settings
from services.storage.artifacts import ArtifactStore
from services.storage.drafts import Draft
from services.storage.problems import storage_problems
from tests.support import job_kinds

KINDS = job_kinds.KINDS
PLACES = ("step", "checkpoint", "publish", "ack")


def reach(place: str) -> None:
    folder = Settings().data_dir / "failpoints"
    armed = folder / "armed"
    try:
        if armed.read_text() != place:
            return
        armed.rename(folder / "taken")  # only one process succeeds
    except OSError:
        return
    (folder / ".hit").write_text(str(os.getpid()))
    (folder / ".hit").rename(folder / "hit")
    end = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)


def _install() -> None:
    step, publish, finish = JobContext.step, ArtifactStore.publish, leases.finish

    def stepping(self: Any, *arguments: Any, **named: Any) -> None:
        reach("step")
        step(self, *arguments, **named)

    def publishing(self: ArtifactStore, drafts: Sequence[Draft], transaction: Callable[[Connection], Any]) -> Any:
        def transact(connection: Connection) -> Any:
            made = transaction(connection)
            if transaction.__qualname__.startswith("checkpoint."):
                reach("checkpoint")
            return made

        return publish(self, drafts, transact)

    def finishing(*arguments: Any, **named: Any) -> None:
        reach("publish")
        finish(*arguments, **named)
        reach("ack")

    write = Draft.write

    def writing(self: Draft, data: bytes | bytearray | memoryview) -> int:
        if (Settings().data_dir / "failpoints" / "full").exists():
            with storage_problems():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    Draft.write = writing  # type: ignore[method-assign]
    JobContext.step = stepping  # type: ignore[method-assign]
    ArtifactStore.publish = publishing  # type: ignore[method-assign]
    leases.finish = finishing


_install()


def arm(data: Path, place: str) -> None:
    """For the harness: stop the next job that comes to ``place``."""
    folder = data / "failpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("armed", "taken", "hit", "go"):
        (folder / name).unlink(missing_ok=True)
    (folder / ".armed").write_text(place)
    (folder / ".armed").rename(folder / "armed")


def hit(data: Path) -> int | None:
    """The process that stands at the armed place."""
    try:
        return int((data / "failpoints" / "hit").read_text())
    except OSError:
        return None


def go(data: Path) -> None:
    """Let it go on."""
    (data / "failpoints" / "go").touch()
