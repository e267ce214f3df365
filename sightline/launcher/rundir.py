"""The run directory of one server: who holds it, and what it tells about itself."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from services.errors import Kind, Problem

_LOCK, _SERVER = "lock", "server.json"
_WORTHLESS = (_SERVER, f".{_SERVER}", "limits")
"""What a server leaves here and the next one must not find; rate limits start afresh."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What ``server.json`` says about a server that takes requests; ``started_at`` in Unix seconds."""

    pid: int
    url: str
    workers: int
    started_at: float


@dataclass(frozen=True, slots=True)
class RunDir:
    """The folder while this process holds it."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    def announce(self, info: ServerInfo) -> None:
        """Tell other programs where the server is."""
        fresh = self.path / f".{_SERVER}"
        fresh.write_text(json.dumps(asdict(info)))
        fresh.replace(self.path / _SERVER)

    def withdraw(self) -> None:
        """Tell that the server takes no more requests."""
        (self.path / _SERVER).unlink(missing_ok=True)


def read_server(run_dir: Path) -> ServerInfo | None:
    """Return what the server of ``run_dir`` announced; ``None`` when there is none, or none that is ready."""
    try:
        return ServerInfo(**json.loads((run_dir / _SERVER).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def held(path: Path) -> Iterator[RunDir]:
    """Hold ``path`` against other servers; the kernel lets go however the process ends. Raises ``already-running``.

    Files of a server that was killed are removed at the start, this one's at the end.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = _lock(path / _LOCK)
    except OSError as error:
        raise Problem(
            Kind.INVALID,
            "data-dir-unusable",
            "The data directory cannot be used",
            f"{path}: {error.strerror}.",
            remedy="Name one that this user may write to: --data-dir, or SIGHTLINE_DATA_DIR.",
        ) from error

    if handle is None:
        raise _already_running(path)

    run_dir = RunDir(path)
    try:
        _clear(run_dir)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield run_dir
    finally:
        _clear(run_dir)
        # The name goes before the lock does: who waits for neither finds a free folder.
        (path / _LOCK).unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path) -> int | None:
    """The locked file's descriptor, or ``None`` when another process has it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        with suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        # The server before us removed the file between our open and our lock.
        os.close(handle)


def _clear(run_dir: RunDir) -> None:
    """Remove what servers leave here, by name: the folder may hold a stranger's files."""
    for name in _WORTHLESS:
        (run_dir.path / name).unlink(missing_ok=True)
    with suppress(OSError):
        run_dir.metrics.rmdir()


def _already_running(path: Path) -> Problem:
    info = read_server(path)
    try:
        pid = (path / _LOCK).read_text()
    except OSError:
        pid = ""
    who = f"The server with process id {pid}" if pid else "Another server"
    return Problem(
        Kind.CONFLICT,
        "already-running",
        "A server uses this data directory",
        f"{who} {f'at {info.url} ' if info else ''}holds {path.parent}.",
        remedy=f"Stop it (kill {pid or 'it'}), or give this one its own --data-dir.",
    )
