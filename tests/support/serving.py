"""Runs ``sightline serve`` as a process, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.launcher.rundir import ServerInfo, read_server

ROOT = Path(__file__).parents[2]


class Serving:
    """One ``sightline serve``; ``info`` once it is ready."""

    def __init__(self, process: subprocess.Popen[bytes], data: Path, log: Path) -> None:
        self.process = process
        self.data = data
        self._log = log
        self.info: ServerInfo

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def workers(self) -> list[int]:
        """Process ids of the gateway workers."""
        return [pid for pid in children(self.process.pid) if "-m gateway" in command(pid)]

    def descendants(self) -> list[int]:
        """Every process that it is made of, and theirs."""
        found, todo = [], [self.process.pid]
        while todo:
            below = children(todo.pop())
            found += below
            todo += below
        return found


def start(data: Path, *arguments: str, environment: dict[str, str] | None = None, root: Path = ROOT) -> Serving:
    """Start it without waiting, from the code in ``root``; without what jobs need, unless ``environment`` says so."""
    data.mkdir(parents=True, exist_ok=True)
    log = data / "log"
    argv = [sys.executable, "-m", "sightline", "serve", "--data-dir", str(data), "--log-format", "json", *arguments]
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=out, cwd=root, env={**os.environ, "SIGHTLINE_JOBS": "false", **(environment or {})}
        )
    return Serving(process, data, log)


@contextmanager
def serving(
    data: Path, *arguments: str, environment: dict[str, str] | None = None, root: Path = ROOT
) -> Iterator[Serving]:
    """A server that is ready; killed at the end unless it has stopped."""
    server = start(data, *arguments, environment=environment, root=root)
    try:
        eventually(lambda: read_server(data / "run") is not None or server.process.poll() is not None, 60)
        info = read_server(data / "run")
        assert info is not None, server.log
        server.info = info
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it may end while we look
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(check: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)
