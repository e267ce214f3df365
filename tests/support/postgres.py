"""A PostgreSQL server of the test session's own: a private cluster on a socket in a temporary folder."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg


class Postgres:
    """The server; :meth:`database` makes an empty database and returns its address."""

    def __init__(self) -> None:
        # The folder of the socket must be short, and readable by the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="sl-pg-", dir=_memory() or "/tmp"))
        self._user = _unprivileged()
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        self._numbers = itertools.count(1)
        self._data = self.folder / "data"
        options = ["-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run([_binary("initdb"), "-D", str(self._data), *options])
        self.process = self._start()

    def database(self) -> str:
        """The address of a new, empty database. What earlier ones held is forgotten as soon as nobody uses them."""
        self._forget_idle()
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def _forget_idle(self) -> None:
        idle = (
            "SELECT datname FROM pg_database WHERE datname LIKE 'test_%' AND datname NOT IN "
            "(SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL)"
        )
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            for (name,) in connection.execute(idle).fetchall():
                connection.execute(f"DROP DATABASE {name}")

    def restart(self) -> None:
        """Kill the server as a crash would, and start it again."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)
        self.process = self._start()

    def close(self) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off"]
        log = (self.folder / "log").open("ab")
        process = subprocess.Popen(
            [_binary("postgres"), "-D", str(self._data), *settings],
            user=self._user,
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        log.close()
        for _ in range(200):
            try:
                psycopg.connect(f"host={self.folder} user=postgres dbname=postgres").close()
                return process
            except psycopg.OperationalError:
                if process.poll() is not None:
                    break
                time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, user=self._user, check=True, capture_output=True, cwd=self.folder)


def _memory() -> str | None:
    """A folder in memory with room for a small cluster: nothing here needs to survive, and disks are slow."""
    try:
        free = os.statvfs("/dev/shm")
    except OSError:
        return None
    return "/dev/shm" if free.f_bavail * free.f_frsize > 1 << 30 and os.access("/dev/shm", os.W_OK) else None


def _binary(name: str) -> str:
    """A PostgreSQL program, on the path or where Debian keeps it."""
    found = shutil.which(name)
    if found:
        return found
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise RuntimeError(f"PostgreSQL's {name} is not installed: `make setup` installs it (Debian: postgresql).")
    return str(versions[-1])


def _unprivileged() -> int | None:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody.")
