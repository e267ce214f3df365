"""The sockets that the platform listens on: opened once by the launcher, inherited by its workers.

One worker has one socket that stays open while it restarts: clients wait, they are not refused. Several workers have
a socket each on the same address (SO_REUSEPORT), because a shared one is unfair: whichever event loop wakes up first
takes every connection that waits, and with eight connections on two workers it is often all eight. The kernel's hash
spreads them. A worker's socket joins in when the worker starts to listen, which is when it is ready.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from dataclasses import dataclass

from services.errors import Kind, Problem

BACKLOG = 2048
_Address = tuple[str, int] | tuple[str, int, int, int]
_SPREADS = sys.platform.startswith("linux")
"""Elsewhere SO_REUSEPORT does not balance, and workers share one socket."""


@dataclass(slots=True)
class Listeners:
    """One socket for each worker; :meth:`descriptor` is what the worker inherits."""

    sockets: list[socket.socket]
    host: str
    port: int

    @staticmethod
    def open(host: str, port: int, workers: int) -> Listeners:
        """Bind ``host``; port 0 is any free one. Raises ``address-*`` and ``port-*`` problems."""
        family, address = _resolve(host, port)
        first = _bind(family, address, shared=False)
        if workers > 1 and _SPREADS:
            # Bound without sharing first: with it, another server of this user on the port would go unnoticed.
            address = (address[0], first.getsockname()[1], *address[2:])
            first.close()
            first = _bind(family, address, shared=True)

        first.listen(BACKLOG)
        sockets = [first]
        port = first.getsockname()[1]
        if _SPREADS:
            address = (address[0], port, *address[2:])
            sockets += [_bind(family, address, shared=True) for _ in range(workers - 1)]

        return Listeners(sockets, host, port)

    def descriptor(self, worker: int) -> int:
        return self.sockets[worker % len(self.sockets)].fileno()

    def accepts(self, worker: int) -> bool:
        """Return whether the worker's socket takes connections (its queue may still be unread)."""
        return bool(self.sockets[worker % len(self.sockets)].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def renew(self, worker: int) -> None:
        """Send new connections to the other workers until this one listens again.

        The new socket takes the old one's number, so that what the worker is started with stays true.
        """
        if len(self.sockets) == 1:
            return  # it stays open: who connects now is served by the worker that starts next
        old = self.sockets[worker]
        fresh = _bind(old.family, old.getsockname(), shared=True)
        os.dup2(fresh.fileno(), old.fileno(), inheritable=False)
        fresh.close()

    def close(self) -> None:
        """Let go of the sockets; workers keep theirs until they close them."""
        for listener in self.sockets:
            listener.close()

    @property
    def url(self) -> str:
        """Where this machine reaches the platform."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``. Raises ``address-unknown``."""
    return ipaddress.ip_address(_resolve(host, 0)[1][0].partition("%")[0]).is_loopback


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, _Address]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise Problem(
            Kind.INVALID,
            "address-unknown",
            "No such address",
            f"{host!r} is neither an address nor a name that this machine knows ({error}).",
            remedy="Use 127.0.0.1 for this machine only, 0.0.0.0 for every network it is in.",
        ) from error

    # A name such as localhost has several addresses; clients try IPv4 in any case.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    assert isinstance(address[0], str)
    return family, address


def _bind(family: socket.AddressFamily | int, address: _Address, *, shared: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _bind_problem(error, address[0], address[1]) from error
    return listener


def _bind_problem(error: OSError, host: str, port: int) -> Problem:
    if error.errno == errno.EADDRINUSE:
        return Problem(
            Kind.CONFLICT,
            "port-in-use",
            "The port is taken",
            f"Another program listens on {host} port {port}.",
            remedy="Stop it, or choose another port: sightline serve --port 8001 (0 finds a free one).",
        )

    if error.errno == errno.EACCES:
        return Problem(
            Kind.FORBIDDEN,
            "port-forbidden",
            "The port may not be used",
            f"This user may not listen on port {port}.",
            remedy="Choose a port above 1023.",
        )

    return Problem(
        Kind.INVALID,
        "address-unavailable",
        "The address cannot be used",
        f"{host} port {port}: {error.strerror}.",
        remedy="Use an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them.",
    )
