"""``probe.py http URL``, ``tcp HOST:PORT`` or ``process TEXT``: whether a container is healthy, by exit code.

Over TCP it has to say something: a socket takes connections while the process behind it hangs.
A process is looked for by a text in its command line; the probe itself and zombies do not count.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit


def answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=3)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def speaks(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3) as connection:
            return connection.recv(1) != b""
    except OSError:
        return False


def runs(text: str) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end while we look
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in command and state not in "ZX" and int(folder.name) != os.getpid():
                return True
    return False


def main(arguments: list[str]) -> int:
    match arguments:
        case ["http", url]:
            return 0 if answers(url) else 1
        case ["tcp", address]:
            return 0 if speaks(address) else 1
        case ["process", text]:
            return 0 if runs(text) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
